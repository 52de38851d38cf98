// SPDX-License-Identifier: Apache-2.0
//! Metrics: a registry that is passed in, never global, and its Prometheus text form.

use prometheus_client::encoding::text;
pub use prometheus_client::registry::Registry;

/// Prefix of every metric that is not one of the field's common names.
pub const PREFIX: &str = "maille";

/// The registry as OpenMetrics text; an empty text if a metric cannot be encoded, which its own tests rule out.
pub fn encode(registry: &Registry) -> String {
    let mut out = String::new();
    match text::encode(&mut out, registry) {
        Ok(()) => out,
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn counters_are_encoded() {
        let mut registry = Registry::default();
        let counter = Counter::<u64>::default();
        registry.register("things", "Things", counter.clone());
        counter.inc();
        assert!(encode(&registry).contains("things_total 1"));
    }
}
