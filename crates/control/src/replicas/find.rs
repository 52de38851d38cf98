// SPDX-License-Identifier: Apache-2.0
//! Who the other replicas are: the pods behind control's Service, without ourselves. Pure. Read `watch.rs` next.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use maille_model::ServiceId;

use crate::index::Index;

/// The port of the Service at which proxies, and replicas, are answered.
const GRPC: u16 = 15_010;
/// More replicas than anybody runs.
const MOST: usize = 16;

/// The others by their pods' names, and where each answers.
pub(super) fn others(index: &Index, control: &ServiceId, me: &str) -> BTreeMap<String, SocketAddr> {
    let behind = index.endpoints(control).map(|all| all.0);
    let behind = behind.unwrap_or_default().into_iter();
    let found = behind.filter_map(|endpoint| {
        let workload = &endpoint.workload;
        // One that is about to go answers still, and takes its proxies' windows with it when it has gone.
        index.pod(&workload.uid)?;
        let (_, port) = endpoint.targets.iter().find(|(port, _)| *port == GRPC)?;
        let address = workload.addresses.first()?;
        let name = workload.name.to_string();
        Some((name, SocketAddr::new(*address, *port)))
    });
    found.filter(|(name, _)| name != me).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use maille_manifest::{Object, from_json};

    use super::*;
    use crate::index::Change;

    fn index() -> Index {
        let mut index = Index::default();
        let service = r#"{"metadata":{"name":"maille-control","namespace":"maille-system"},"spec":{"clusterIPs":["10.96.0.7"],
            "selector":{"app":"control"},"ports":[{"name":"grpc","port":15010,"targetPort":"grpc"},{"name":"https","port":443,"targetPort":8443}]}}"#;
        let mut objects = vec![Object::Service(from_json(service.as_bytes()).unwrap())];
        for (name, ip, phase, label) in [
            ("control-1", "10.0.0.1", "Running", "control"),
            ("control-2", "10.0.0.2", "Running", "control"),
            ("control-3", "10.0.0.3", "Failed", "control"),
            ("web-1", "10.0.0.4", "Running", "web"),
        ] {
            let pod = format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"maille-system","uid":"{name}","labels":{{"app":"{label}"}}}},
                "spec":{{"containers":[{{"name":"c","ports":[{{"name":"grpc","containerPort":15010}}]}}]}},
                "status":{{"phase":"{phase}","podIPs":[{{"ip":"{ip}"}}]}}}}"#
            );
            objects.push(Object::Pod(from_json(pod.as_bytes()).unwrap()));
        }
        for object in objects {
            index.apply(Change::read(&object).unwrap().unwrap());
        }
        index
    }

    #[test]
    fn the_pods_behind_the_service_but_ourselves() {
        let control = "maille-system/maille-control".parse().unwrap();
        let found = others(&index(), &control, "control-1");
        let second = ("control-2".to_owned(), "10.0.0.2:15010".parse().unwrap());
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [second]);
        assert_eq!(others(&index(), &control, "elsewhere").len(), 2);
        assert!(others(&Index::default(), &control, "control-1").is_empty());
    }
}
