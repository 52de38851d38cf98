// SPDX-License-Identifier: Apache-2.0
//! The node agent: capture, proxies, and the pod runner of one machine.
