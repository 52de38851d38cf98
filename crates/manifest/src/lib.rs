// SPDX-License-Identifier: Apache-2.0
//! Kubernetes manifests, read with file, line and field.
