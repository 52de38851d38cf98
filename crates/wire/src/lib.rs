// SPDX-License-Identifier: Apache-2.0
//! The wire: protobuf types and their only conversions to the model.
