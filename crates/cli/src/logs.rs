// SPDX-License-Identifier: Apache-2.0
//! `maille logs`: what a container wrote, as it wrote it. Must never alter a byte: it is the container's output, not ours.

use std::io::Write as _;
use std::process::ExitCode;

use http::Method;
use http_body_util::BodyExt as _;

use crate::args::orders::Logs;
use crate::node;
use crate::pods_of::choose;
use crate::screen::Screen;
use crate::state::Base;

pub(crate) async fn run(args: &Logs, base: &Base, screen: Screen) -> anyhow::Result<ExitCode> {
    let state = base.state(&args.which.name)?;
    let chosen = choose(&state, &args.target, args.namespace.as_deref(), screen).await?;
    let containers = chosen.containers();
    if let (None, [first, _, ..]) = (&args.container, &containers[..]) {
        screen.say(&format!(
            "Defaulted container {first:?} out of: {}",
            containers.join(", ")
        ));
    }
    let mut query = Vec::new();
    query.extend(
        args.container
            .as_ref()
            .map(|name| format!("container={name}")),
    );
    query.extend(
        args.tail
            .filter(|tail| *tail >= 0)
            .map(|tail| format!("tail={tail}")),
    );
    query.extend(args.follow.then(|| "follow=1".to_owned()));
    query.extend(args.previous.then(|| "previous=1".to_owned()));
    let path = format!("{}/log?{}", chosen.path(), query.join("&"));
    let response = node::open(&state, Method::GET, &path, None).await?;
    if !response.status().is_success() {
        let (status, body) = node::whole(response).await?;
        return Err(node::refused(status, &body).into());
    }
    let mut body = response.into_body();
    let mut out = std::io::stdout().lock();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| node::silent(&state, error.into()))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            // `| head` has seen enough.
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
