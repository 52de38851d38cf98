// SPDX-License-Identifier: Apache-2.0
//! Two data planes in one process, on loopback, with real certificates: what a client and a server see of the mesh between them.

mod http;
mod lab;
mod mesh;
mod origin;
mod tcp;
