// SPDX-License-Identifier: Apache-2.0
//! Certificates: CA, signing requests, rotation, TLS sessions.
