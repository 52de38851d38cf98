// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes for the tests: API server, etcd, kubelets, containerd and DNS, built from their Go modules, each
//! machine of the cluster a process tree in namespaces of its own.
//!
//! Must never change anything in the machine's own namespaces, and must leave nothing. Read [`cluster`] first.

#![forbid(unsafe_code)]

/// A cluster: up, down, status, kubectl.
pub mod cluster;
mod components;
/// Images without a registry: OCI archives that containerd, nerdctl and docker load.
pub mod image;
/// Process 1 of a machine.
pub mod init;
/// A machine made of namespaces.
pub mod machine;
/// What is built once: programs and images.
pub mod parts;
mod pki;
mod shell;
mod worker;

pub use cluster::Cluster;
