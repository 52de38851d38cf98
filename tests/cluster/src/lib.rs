// SPDX-License-Identifier: Apache-2.0
//! A real Kubernetes for the tests: API server, etcd, kubelets, containerd and DNS, built from their Go modules, each
//! machine of the cluster a process tree in namespaces of its own.
//!
//! Must never change anything in the machine's own namespaces, and must leave nothing. Read [`cluster`] first.

#![forbid(unsafe_code)]

/// The mesh on nodes: its agents, what they do and what they say.
pub mod agents;
/// A small machine with the kernel's modules of one's choice.
pub mod booted;
/// A cluster: up, down, status, kubectl.
pub mod cluster;
mod components;
mod cpio;
/// The example application.
pub mod demo;
/// A virtual machine's kernel and first program.
pub mod guest;
/// A runtime with a kernel of its own.
pub mod gvisor;
/// Process 1 of a machine.
pub mod init;
/// A machine made of namespaces.
pub mod machine;
/// Pods in virtual machines.
pub mod machined;
/// A cluster with the mesh on it.
pub mod meshed;
/// Programs and manifests of others.
pub mod modules;
/// Pods that answer and ask in every way.
pub mod pairs;
/// What is built once: programs and images.
pub mod parts;
mod pki;
/// Processes of pods.
pub mod processes;
mod shell;
/// An application in the mesh and outside, under load.
pub mod twins;
/// A machine with a kernel of its own.
pub mod whole;
/// Who watches what goes between nodes.
pub mod witness;
mod worker;

pub use cluster::Cluster;
/// Images without a registry.
pub use maille_images::archive as image;
