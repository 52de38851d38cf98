// SPDX-License-Identifier: Apache-2.0
//! Maille's pair as pods have it: what the load dials is taken on its way, by the rules that pods have. Outboard in a namespace in front of the pod
//! (TPROXY), inboard in the pod itself (REDIRECT). In a world of its own, as whatever else is dialled there would be taken too.
//!
//! Must never be dialled at a port of its own. Used by `peers.rs`.

use std::cell::RefCell;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use maille_chassis::clock::Clock;
use maille_node::capture::inboard::{Closed, Inboard, PROXY_USER};
use maille_node::capture::{INBOUND_PORT, Listeners, MESH_PORT, OUTBOUND_PORT, TO_POD};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{Carries, Pair, Peer, backend, maille};
use crate::lab::{Core, Lab, Process, Side};

/// A world that a pair has to itself; what is in it ends before it does.
#[derive(Debug)]
pub(crate) struct World {
    _support: Vec<Process>,
    _listeners: Vec<Listeners>,
    pub(crate) lab: Lab,
}

/// Starts a pair, and all it needs.
pub(super) fn pair(bin_dir: &Path, (peer, carries): (Peer, Carries)) -> anyhow::Result<Pair> {
    let started = Clock::start();
    let lab = Lab::build()?;
    let mut support = Vec::from(backend::start(&lab)?);
    support.push(maille::control(&lab, bin_dir, None)?);
    let program = bin_dir.join("maille-proxy");
    let (mut proxies, mut held) = (Vec::new(), Vec::new());
    for side in [Side::Client, Side::Server] {
        lab.route(side)?;
        let mut command = match peer {
            Peer::Outboard => {
                let listeners = lab.capture(side)?;
                let command = in_front(&lab, side, &program, &listeners)?;
                held.push(listeners);
                command
            }
            _ => inside(&lab, side, &program)?,
        };
        let name = maille::describe(&mut command, &lab, (side, carries));
        proxies.push(RefCell::new(lab.start(&name, &mut command)?));
    }
    Ok(Pair {
        peer,
        carries,
        entry: format!("{}:80", maille::addresses(carries).service),
        started,
        proxies,
        world: Some(World {
            _support: support,
            _listeners: held,
            lab,
        }),
    })
}

/// A proxy in front of a captured pod, which is given the sockets that the capture made.
fn in_front(
    lab: &Lab,
    side: Side,
    program: &Path,
    listeners: &Listeners,
) -> anyhow::Result<Command> {
    let (mut apart, mut passed) = (String::new(), String::new());
    let sockets = [&listeners.outbound, &listeners.inbound, &listeners.mesh];
    for (socket, number) in sockets.into_iter().zip(3..) {
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::empty()))?;
        // Out of the way of the numbers that they are passed by.
        apart += &format!(" 10{number}<&{}", socket.as_raw_fd());
        passed += &format!(" {number}<&10{number}");
    }
    let mut command = lab.command_in_front(side, Core::Pair, Path::new("bash"));
    command
        .args(["-c", &format!("exec{apart} && exec{passed} && exec \"$0\"")])
        .arg(program)
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", "outbound:inbound:mesh")
        .env("MAILLE_SOURCE", "keep")
        .env("MAILLE_MARK", TO_POD.to_string());
    Ok(command)
}

/// A proxy inside a pod whose connections are redirected to it: told from everybody else by its user, who may use control's socket all the same.
fn inside(lab: &Lab, side: Side, program: &Path) -> anyhow::Result<Command> {
    let rules = Inboard::default().render(Closed::Kernel);
    lab.inside(side, || maille_sys::nft::apply_here(&rules))??;
    let mut command = lab.command(side, Core::Pair, Path::new("setpriv"));
    let user = PROXY_USER.to_string();
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"])
        .arg(program)
        .env("MAILLE_CAPTURE", "redirect");
    for (name, port) in [
        ("MAILLE_OUTBOUND", OUTBOUND_PORT),
        ("MAILLE_INBOUND", INBOUND_PORT),
        ("MAILLE_MESH", MESH_PORT),
    ] {
        command.env(name, format!("[::]:{port}"));
    }
    Ok(command)
}
