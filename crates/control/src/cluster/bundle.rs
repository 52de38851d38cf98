// SPDX-License-Identifier: Apache-2.0
//! Who may call us: our anchors as `caBundle`, where the API server looks before it calls the webhooks and the aggregated API.
//!
//! What is installed has none, so that it holds no key and no secret; it is written here, and again whenever the anchors change
//! or somebody takes it away. Written by whoever holds the lease. Read [`crate::gate`] for what is called.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{Patch, PatchParams};
use maille_chassis::clock::Clock;
use maille_chassis::limited;
use serde_json::{Value, json};

use super::leader::Leading;
use super::mirror::Mirror;
use super::{CallError, Cluster, MANAGER, call, watch_one};
use crate::causes::with_causes;
use crate::keyring::Keyring;

/// The configuration of the webhook that changes pods.
const WEBHOOK: &str = "maille-inject";
/// Of the one that looks at them when everybody has.
const LAST: &str = "maille-verify";
/// The aggregated API.
const SERVICE: &str = "v1.api.maille.io";
/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// The bundle of each webhook, by its name; of an APIService under its own.
type Bundles = Vec<(String, Vec<u8>)>;

struct Keeper {
    webhooks: Api<MutatingWebhookConfiguration>,
    lasts: Api<ValidatingWebhookConfiguration>,
    services: Api<APIService>,
    webhook: Mirror<Bundles>,
    last: Mirror<Bundles>,
    service: Mirror<Bundles>,
    keyring: Keyring,
}

/// Keeps the bundles, until the process ends.
pub async fn keep(cluster: Cluster, keyring: Keyring, mut leading: Leading, clock: Clock) {
    let mut anchors = keyring.from_now();
    let mut keeper = Keeper {
        webhooks: Api::all(cluster.client.clone()),
        lasts: Api::all(cluster.client.clone()),
        services: Api::all(cluster.client.clone()),
        webhook: Mirror::new(),
        last: Mirror::new(),
        service: Mirror::new(),
        keyring,
    };
    let mut webhooks = watch_one(&cluster, keeper.webhooks.clone(), WEBHOOK);
    let mut lasts = watch_one(&cluster, keeper.lasts.clone(), LAST);
    let mut services = watch_one(&cluster, keeper.services.clone(), SERVICE);
    let mut failed = false;
    loop {
        tokio::select! {
            step = webhooks.next() => match step {
                None => return,
                Some(Ok(step)) => keeper.webhook.take(step, of_webhook),
                Some(Err(error)) => limited!(warn, error = %with_causes(&error), "watch on the webhook began again"),
            },
            step = lasts.next() => match step {
                None => return,
                Some(Ok(step)) => keeper.last.take(step, of_last),
                Some(Err(error)) => limited!(warn, error = %with_causes(&error), "watch on the last webhook began again"),
            },
            step = services.next() => match step {
                None => return,
                Some(Ok(step)) => keeper.service.take(step, of_service),
                Some(Err(error)) => limited!(warn, error = %with_causes(&error), "watch on the APIService began again"),
            },
            _ = anchors.next() => {}
            () = leading.changed() => {}
            () = clock.wait(AGAIN), if failed => {}
        }
        failed = false;
        if leading.now()
            && let Err(error) = keeper.settle().await
        {
            failed = true;
            limited!(warn, error = %with_causes(&error), "caBundle not written");
        }
    }
}

// === impl Keeper ===

impl Keeper {
    async fn settle(&self) -> Result<(), CallError> {
        let Some(authority) = self.keyring.current() else {
            return Ok(());
        };
        let bundle = authority.kept().anchors.into_bytes();
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let wrong = |mirror: &Mirror<Bundles>| -> Vec<String> {
            let all = mirror.now().values().flatten();
            let wrong = all.filter(|(_, found)| *found != bundle);
            wrong.map(|(name, _)| name.clone()).collect()
        };
        let text = json!(ByteString(bundle.clone()));
        let names = wrong(&self.webhook);
        if !names.is_empty() {
            let patch = webhook_patch(&names, &text);
            call(
                self.webhooks
                    .patch(WEBHOOK, &params, &Patch::Strategic(&patch)),
            )
            .await?;
            tracing::info!(webhook = WEBHOOK, "caBundle written");
        }
        let names = wrong(&self.last);
        if !names.is_empty() {
            let patch = Patch::Strategic(webhook_patch(&names, &text));
            call(self.lasts.patch(LAST, &params, &patch)).await?;
            tracing::info!(webhook = LAST, "caBundle written");
        }
        if !wrong(&self.service).is_empty() {
            let patch = json!({"spec": {"caBundle": text}});
            call(self.services.patch(SERVICE, &params, &Patch::Merge(&patch))).await?;
            tracing::info!(service = SERVICE, "caBundle written");
        }
        Ok(())
    }
}

/// A strategic merge patch finds entries of the list by their names.
fn webhook_patch(names: &[String], bundle: &Value) -> Value {
    let entry = |name: &String| json!({"name": name, "clientConfig": {"caBundle": bundle}});
    json!({"webhooks": names.iter().map(entry).collect::<Vec<_>>()})
}

fn of_webhook(configuration: MutatingWebhookConfiguration) -> Option<(String, Bundles)> {
    let webhooks = configuration.webhooks.unwrap_or_default().into_iter();
    let bundles = webhooks.map(|webhook| (webhook.name, of_client(webhook.client_config)));
    Some((configuration.metadata.name?, bundles.collect()))
}

fn of_last(configuration: ValidatingWebhookConfiguration) -> Option<(String, Bundles)> {
    let webhooks = configuration.webhooks.unwrap_or_default().into_iter();
    let bundles = webhooks.map(|webhook| (webhook.name, of_client(webhook.client_config)));
    Some((configuration.metadata.name?, bundles.collect()))
}

fn of_client(config: WebhookClientConfig) -> Vec<u8> {
    config.ca_bundle.map_or_else(Vec::new, |bundle| bundle.0)
}

fn of_service(service: APIService) -> Option<(String, Bundles)> {
    let name = service.metadata.name?;
    let bundle = service.spec?.ca_bundle;
    let bundle = bundle.map_or_else(Vec::new, |bundle| bundle.0);
    Some((name.clone(), vec![(name, bundle)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_webhook_that_is_wrong_is_named() {
        let patch = webhook_patch(&["a".to_owned(), "b".to_owned()], &json!("eA=="));
        let expected = json!({"webhooks": [
            {"name": "a", "clientConfig": {"caBundle": "eA=="}},
            {"name": "b", "clientConfig": {"caBundle": "eA=="}}]});
        assert_eq!(patch, expected);
    }
}
