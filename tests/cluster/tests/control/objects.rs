// SPDX-License-Identifier: Apache-2.0
//! The cluster's objects, as the test reads and writes them. Whatever comes later than it is asked for is waited for by a watch.

use std::collections::BTreeMap;
use std::path::Path;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt as _, wait};
use kube::{Api, Client, Config, Resource};
use serde_json::json;
use tokio::time::timeout;

use crate::DEADLINE;

const SHOP: &str = "shop";
const SYSTEM: &str = "maille-system";

/// The administrator's client.
pub(crate) struct Objects(Client);

impl Objects {
    pub(crate) async fn new(kubeconfig: &Path) -> Self {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(file, &options).await;
        Self(Client::try_from(config.unwrap()).unwrap())
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.0.clone(), namespace)
    }

    /// What `read` makes of the object `name`, as soon as that is something.
    async fn when<K, T>(&self, api: Api<K>, name: &str, read: impl Fn(K) -> Option<T>) -> T
    where
        K: Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut states = watcher(api, config)
            .default_backoff()
            .applied_objects()
            .boxed();
        let found = async {
            loop {
                // A watch that breaks is begun again.
                if let Ok(Some(state)) = states.try_next().await
                    && let Some(found) = read(state)
                {
                    return found;
                }
            }
        };
        timeout(DEADLINE, found)
            .await
            .unwrap_or_else(|_| panic!("{name}: not in time"))
    }

    /// A meshed pod of shop/web that no node runs, with an address, ready.
    pub(crate) async fn pod(&self, name: &str, ip: &str) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": SHOP, "labels": {"app": "web"}, "annotations": {"maille.io/injected": "1"}},
            "spec": {"schedulerName": "nobody", "serviceAccountName": "web",
                "containers": [{"name": "c", "image": "none.test/none:1", "ports": [{"containerPort": 8080}]}]},
        });
        let pods: Api<Pod> = self.api(SHOP);
        let pod = serde_json::from_value(pod).unwrap();
        pods.create(&PostParams::default(), &pod).await.unwrap();
        let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
        let params = PatchParams::default();
        pods.patch_status(name, &params, &Patch::Merge(&status))
            .await
            .unwrap();
        self.set_ready(name, true).await;
    }

    pub(crate) async fn uid(&self, name: &str) -> String {
        let pods: Api<Pod> = self.api(SHOP);
        pods.get(name).await.unwrap().metadata.uid.unwrap()
    }

    pub(crate) async fn set_ready(&self, name: &str, is_ready: bool) {
        let word = if is_ready { "True" } else { "False" };
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": word}]}});
        let pods: Api<Pod> = self.api(SHOP);
        let params = PatchParams::default();
        pods.patch_status(name, &params, &Patch::Strategic(&status))
            .await
            .unwrap();
    }

    /// A token of shop/web for `audience`, made for `pod`, or for none.
    pub(crate) async fn token(&self, pod: &str, audience: &str) -> String {
        let bound_object_ref = (!pod.is_empty()).then(|| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(pod.to_owned()),
            uid: None,
        });
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                bound_object_ref,
                expiration_seconds: Some(600),
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = self.api(SHOP);
        let params = PostParams::default();
        let made = accounts
            .create_token_request("web", &params, &request)
            .await;
        made.unwrap().status.unwrap().token
    }

    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> BTreeMap<String, String> {
        let data = self.when(self.api::<Secret>(namespace), name, |secret| secret.data);
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
        let data = data.await.into_iter();
        data.map(|(key, bytes)| (key, text(bytes))).collect()
    }

    /// What pods of a namespace are to trust.
    pub(crate) async fn trust(&self, namespace: &str) -> String {
        let maps = self.api::<ConfigMap>(namespace);
        self.when(maps, "maille-trust", |map| map.data?.remove("ca.crt"))
            .await
    }

    pub(crate) async fn has_trust(&self, namespace: &str) -> bool {
        let maps = self.api::<ConfigMap>(namespace);
        maps.get_opt("maille-trust").await.unwrap().is_some()
    }

    /// Somebody deletes it.
    pub(crate) async fn drop_trust(&self, namespace: &str) {
        let maps = self.api::<ConfigMap>(namespace);
        let uid = maps
            .get("maille-trust")
            .await
            .unwrap()
            .metadata
            .uid
            .unwrap();
        maps.delete("maille-trust", &DeleteParams::default())
            .await
            .unwrap();
        let gone = wait::await_condition(maps, "maille-trust", wait::conditions::is_deleted(&uid));
        timeout(DEADLINE, gone).await.unwrap().unwrap();
    }

    /// The bundles of all webhooks and of the APIService.
    pub(crate) async fn bundles(&self) -> Vec<String> {
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
        let webhooks = Api::<MutatingWebhookConfiguration>::all(self.0.clone());
        let mut bundles = self
            .when(webhooks, "maille-inject", |configuration| {
                let webhooks = configuration.webhooks?.into_iter();
                let bundles = webhooks.map(|webhook| webhook.client_config.ca_bundle.map(text));
                bundles.collect::<Option<Vec<String>>>()
            })
            .await;
        let last = Api::<ValidatingWebhookConfiguration>::all(self.0.clone());
        let more = self.when(last, "maille-verify", |configuration| {
            let webhooks = configuration.webhooks?.into_iter();
            let bundles = webhooks.map(|webhook| webhook.client_config.ca_bundle.map(text));
            bundles.collect::<Option<Vec<String>>>()
        });
        bundles.extend(more.await);
        let services = Api::<APIService>::all(self.0.clone());
        let bundle = self.when(services, "v1.api.maille.io", |service| {
            service.spec?.ca_bundle.map(text)
        });
        bundles.push(bundle.await);
        bundles
    }

    pub(crate) async fn holder(&self) -> Option<String> {
        let leases = self.api::<Lease>(SYSTEM);
        let lease = leases.get("maille-control").await.unwrap();
        lease.spec.unwrap().holder_identity
    }

    pub(crate) async fn held_by(&self, name: &str) {
        let leases = self.api::<Lease>(SYSTEM);
        self.when(leases, "maille-control", |lease| {
            let holder = lease.spec?.holder_identity?;
            (holder == name).then_some(())
        })
        .await;
    }

    /// A pod that wants a proxy, as it would be made.
    pub(crate) async fn tried(&self, name: &str) -> Pod {
        let pods: Api<Pod> = self.api(SHOP);
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = serde_json::from_value(wanting(name)).unwrap();
        pods.create(&params, &pod).await.unwrap()
    }

    /// The webhook, as an API server asks it.
    pub(crate) async fn webhook(&self, address: &str) -> Webhook {
        let anchors = self.secret(SYSTEM, "maille-ca").await;
        let anchors = pem::parse_many(&anchors["ca.crt"]).unwrap().into_iter();
        let mut config = Config::new(format!("https://{address}").parse().unwrap());
        config.root_cert = Some(anchors.map(pem::Pem::into_contents).collect());
        config.tls_server_name = Some("maille-control.maille-system.svc".to_owned());
        Webhook(Client::try_from(config).unwrap())
    }

    /// Another authority.
    pub(crate) async fn replace_authority(&self, anchors: &str, issuers: &str, key: &str) {
        let patch = json!({"stringData": {"ca.crt": anchors, "tls.crt": issuers, "tls.key": key}});
        let secrets: Api<Secret> = self.api(SYSTEM);
        let params = PatchParams::default();
        let patch = Patch::Merge(&patch);
        secrets.patch("maille-ca", &params, &patch).await.unwrap();
    }

    /// Waits until pods of a namespace are to trust these.
    pub(crate) async fn trusted(&self, namespace: &str, anchors: &str) {
        let maps = self.api::<ConfigMap>(namespace);
        self.when(maps, "maille-trust", |map| {
            (map.data?.get("ca.crt")? == anchors).then_some(())
        })
        .await;
    }

    /// Whether a call fails.
    pub(crate) async fn is_away(&self) -> bool {
        self.0.apiserver_version().await.is_err()
    }

    /// Waits until calls succeed again.
    pub(crate) async fn is_back(&self) {
        let leases = self.api::<Lease>(SYSTEM);
        self.when(leases, "maille-control", Some).await;
    }
}

/// The webhook, as an API server asks it.
pub(crate) struct Webhook(Client);

impl Webhook {
    /// Asks about one pod.
    pub(crate) async fn ask(&self) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "r", "namespace": SHOP, "operation": "CREATE",
                "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": wanting("asked")},
        });
        let request =
            http::Request::post("/inject?timeout=5s").header("content-type", "application/json");
        let request = request.body(review.to_string().into_bytes()).unwrap();
        let answer = self.0.request_text(request).await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");
    }
}

/// A pod that wants a proxy.
fn wanting(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": SHOP, "labels": {"maille.io/inject": "enabled"}},
        "spec": {"schedulerName": "nobody", "serviceAccountName": "web",
            "containers": [{"name": "c", "image": "none.test/none:1", "ports": [{"containerPort": 8080}]}]},
    })
}
