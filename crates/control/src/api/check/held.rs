// SPDX-License-Identifier: Apache-2.0
//! What proxies prove themselves with and whom they believe, by their own word: how far the replacement of an issuer or of an anchor
//! is. An anchor may be retired when nobody has a certificate under it any more; an issuer may sign when everybody believes it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use maille_identity::{Authority, describe};
use maille_wire::v1;

use super::super::Api;
use super::{Check, check, listed};

/// For an answer of one proxy.
const PATIENCE: Duration = Duration::from_secs(3);
/// Proxies that are asked; of more than that these stand for all.
const PROXIES: usize = 500;

/// Of one proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// `namespace/name`.
    pod: String,
    /// SHA-256 of its issuer.
    issuer: String,
    /// SHA-256 of whom it believes.
    anchors: BTreeSet<String>,
}

/// Asks every proxy that is there.
pub(super) async fn ask(api: &Api) -> Vec<Held> {
    let pods: Vec<_> = {
        let world = api.hub.world();
        let served = world.index.pods().filter(|pod| pod.is_served());
        let named = served.map(|pod| {
            let workload = &pod.workload;
            let name = format!("{}/{}", workload.namespace, workload.name);
            (workload.uid.clone(), name)
        });
        named.take(PROXIES).collect()
    };
    let asked = pods.into_iter().map(async |(uid, pod)| {
        let what = v1::question::What::Certificate(v1::Certificate {});
        let answer = api.hub.questions().once(&uid, what, PATIENCE).await.ok()?;
        let v1::answer::What::Certificate(answer) = answer else {
            return None;
        };
        let hashes = answer.trust_anchors.iter().map(|der| describe::sha256(der));
        Some(Held {
            pod,
            issuer: describe::sha256(answer.chain.get(1)?),
            anchors: hashes.collect(),
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// How far they are from what is in force.
pub(super) fn judge(all: &[Held], authority: &Authority) -> [Check; 2] {
    let issuer = describe::sha256(authority.issuer());
    let anchors = authority.trust_anchors();
    let anchors: BTreeSet<_> = anchors.iter().map(|der| describe::sha256(der)).collect();
    let not = |is_so: &dyn Fn(&Held) -> bool| -> Vec<String> {
        let late = all.iter().filter(|held| !is_so(held));
        late.map(|held| held.pod.clone()).collect()
    };
    let renewed = not(&|held| held.issuer == issuer);
    let believing = not(&|held| held.anchors == anchors);
    [
        progress(
            "proxies have certificates of the issuer in force",
            &renewed,
            all.len(),
            "they renew by themselves, when 70 % of a certificate's time is over; until then keep the anchor above the old issuer",
        ),
        progress(
            "proxies believe the trust anchors in force, and no others",
            &believing,
            all.len(),
            "they hear of it from control; let no issuer sign whose anchor not everybody believes",
        ),
    ]
}

fn progress(name: &str, late: &[String], all: usize, hint: &str) -> Check {
    let done = all - late.len();
    let counted = format!("{done} of {all} do");
    let message = match late {
        [] => counted,
        late => format!("{counted}; not yet {}", listed("", late)),
    };
    check("proxies", name, true)
        .says(message)
        .unfinished(late.is_empty(), hint)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn how_far_it_is() {
        let domain = "cluster.local".parse().unwrap();
        let make = || Authority::create(&domain, SystemTime::now()).unwrap();
        let (old, new) = (make(), make());
        let held = |pod: &str, authority: &Authority| Held {
            pod: pod.to_owned(),
            issuer: describe::sha256(authority.issuer()),
            anchors: authority
                .trust_anchors()
                .iter()
                .map(|der| describe::sha256(der))
                .collect(),
        };
        let all = [held("shop/web-1", &old), held("shop/web-2", &new)];
        for check in judge(&all, &new) {
            assert!(check.ok && !check.hint.is_empty(), "{check:?}");
            assert_eq!(check.message, "1 of 2 do; not yet shop/web-1");
        }
        for check in judge(&all[1..], &new) {
            assert!(check.ok && check.hint.is_empty(), "{check:?}");
            assert_eq!(check.message, "1 of 1 do");
        }
    }
}
