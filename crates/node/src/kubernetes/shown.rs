// SPDX-License-Identifier: Apache-2.0
//! Frames of a captured pod of a cluster on standard output, `maille-node --frames NAMESPACE/POD`, for whom the API server lets enter its node's agent
//! (`pods/exec`): nobody else is shown what tenants say. It ends with its standard input, which is its reader's connection.
//!
//! It asks no agent: a sandbox's directory says where its mesh namespace is. Must never change anything. Read [`crate::frames`] next.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use maille_cni::protocol::{PIN, SANDBOXES, Sandbox};
use maille_sys::NetNs;

use super::sandboxes::RECORD;
use crate::args::Frames;
use crate::capture::WIRE;
use crate::frames::filter::Filter;
use crate::frames::{SNAPLEN, Side, mesh_side, record, state};

/// Runs until nobody reads any more.
pub(super) async fn run(args: Frames) -> anyhow::Result<()> {
    let filter = Filter::parse(&args.filter)?;
    let sides = sides(&args)?;
    if args.state {
        let text = state::read(&sides);
        std::io::stdout().write_all(text.as_bytes())?;
        return Ok(());
    }
    let snaplen = args.snaplen.unwrap_or(SNAPLEN).clamp(64, SNAPLEN);
    let mut pieces = record(&sides, &filter, snaplen).context("its frames cannot be seen")?;
    let mut ended = tokio::task::spawn_blocking(|| {
        let mut word = [0; 64];
        while std::io::stdin().read(&mut word).is_ok_and(|read| read > 0) {}
    });
    let mut out = std::io::stdout().lock();
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece.context("frames are no longer seen")?,
            _ = &mut ended => return Ok(()),
        };
        // Who reads no more has what he wanted.
        if out.write_all(&piece).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}

/// What the kernel holds of the network that this process is in: that of a sandbox, for whom its runtime lets in (`maille-node --here`).
pub(super) fn here() -> std::io::Result<()> {
    let side = Side {
        namespace: NetNs::current()?,
        interfaces: Vec::new(),
        what: "guest",
    };
    std::io::stdout().write_all(state::read(&[side]).as_bytes())
}

/// The pod's mesh namespace, and its node's end of the wire.
fn sides(args: &Frames) -> anyhow::Result<Vec<Side>> {
    let directory = find(&args.directory.join(SANDBOXES), args)?;
    let mesh = NetNs::pinned(&directory.join(PIN)).context("its mesh namespace is gone")?;
    let mut sides = vec![mesh_side(mesh)];
    // Where the wire ends otherwise, on another machine say, there is nothing to see on this one.
    sides.extend(node_side(&sides[0].namespace)?);
    Ok(sides)
}

/// The directory of the pod's sandbox.
fn find(sandboxes: &Path, args: &Frames) -> anyhow::Result<std::path::PathBuf> {
    for entry in std::fs::read_dir(sandboxes).context("this node has captured nothing")? {
        let path = entry?.path();
        // One that is ended meanwhile has none.
        let Ok(record) = std::fs::read(path.join(RECORD)) else {
            continue;
        };
        let sandbox: Sandbox = serde_json::from_slice(&record)?;
        if sandbox.namespace == args.namespace && sandbox.name == args.pod {
            return Ok(path);
        }
    }
    bail!("pod {}/{} is not captured here", args.namespace, args.pod)
}

/// The other end of the wire, where that is in this process's namespace, which is its node's.
fn node_side(mesh: &NetNs) -> anyhow::Result<Option<Side>> {
    let links =
        |namespace: &NetNs| maille_sys::link::inside(namespace, async |net| net.links().await);
    let wire = links(mesh)?.into_iter().find(|link| link.name == WIRE);
    let wire = wire.context("its mesh namespace has no wire")?;
    let node = NetNs::current()?;
    let ends = links(&node)?.into_iter().find(|link| {
        // Numbers are of a namespace: two that name each other are a pair.
        wire.peer == Some(link.index) && link.peer == Some(wire.index)
    });
    Ok(ends.map(|link| Side {
        namespace: node,
        interfaces: vec![(link.name, "node: the same wire, at its node's end")],
        what: "node",
    }))
}
