// SPDX-License-Identifier: Apache-2.0
//! The control plane and the certificate authority.
