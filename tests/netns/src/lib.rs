// SPDX-License-Identifier: Apache-2.0
//! Ring 5: real kernel, real namespaces.
