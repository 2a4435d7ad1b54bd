//! The places for calls, and the gauges that show them.
use std::sync::Arc;

use crate::{
    admit::{self, Gates},
    caller::Priority,
    config::Config,
    observe::Metrics,
};

/// The gates, and the gauges that show them.
pub(super) fn gates(settings: &admit::Settings, metrics: &Metrics) -> Result<Arc<Gates>, String> {
    for reason in admit::Reason::ALL {
        for priority in Priority::NAMES {
            // From 0 on, or an alert would not see the first one as an increase.
            metrics.shed.with_label_values(&[reason.as_str(), priority]);
        }
    }
    let gates = Arc::new(Gates::new(settings));
    let seen = gates.clone();
    let registered = metrics.register_places(move |gauges| {
        for gauge in [&gauges.waiting, &gauges.places, &gauges.taken] {
            gauge.reset();
        }
        let mut waiting = [0; Priority::ALL.len()];
        seen.each(|kind, name, gate| {
            let view = gate.view();
            gauges.places.with_label_values(&[kind, name]).set(view.places.into());
            gauges.taken.with_label_values(&[kind, name]).set(view.taken.into());
            if kind == "all" {
                gauges.in_flight.set(view.taken.into());
            }
            waiting.iter_mut().zip(view.waiting).for_each(|(sum, many)| *sum += many as i64);
        });
        for (priority, many) in Priority::NAMES.iter().zip(waiting) {
            gauges.waiting.with_label_values(&[priority]).set(many);
        }
    });
    registered.map(|()| gates).map_err(|error| error.to_string())
}

/// Which models and providers have places of their own.
pub(super) fn plan(config: &Config) -> admit::Plan<'_> {
    let routes = config.models.iter().map(|(name, route)| (name.clone(), route.max_in_flight));
    let lent = config.providers.iter().filter(|(_, provider)| !provider.models.is_empty());
    let providers = config.providers.iter().map(|(name, provider)| (name.clone(), provider.max_in_flight));
    admit::Plan {
        settings: &config.admit,
        models: routes.chain(lent.map(|(name, _)| (format!("{name}/*"), None))).collect(),
        providers: providers.collect(),
    }
}
