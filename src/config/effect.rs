//! What is good by itself and would have no effect: names that nothing bears, bounds that never hold.
//!
//! Who writes such a thing believes that something is guarded, limited or preferred, and nothing is.
use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Config, problem::nearest, references::Dangling};
use crate::{
    guard::safety::{self, moderation},
    route,
};

/// All that would have no effect. `whole` says whether nothing else is wrong: what was taken out for a mistake of its
/// own may be what a name stands for.
pub(super) fn check(config: &Config, whole: bool) -> Vec<Dangling> {
    let mut found = Vec::new();
    bursts(config, &mut found);
    custom_types(config, &mut found);
    let outlier = &config.routing.outlier;
    if outlier.longest < outlier.eject_for {
        let message = format!("is less than `routing.outlier.eject_for`, which is {}", outlier.eject_for);
        found.push(Dangling::new("routing.outlier.longest".into(), message));
    }
    if config.budget.webhook_secret.is_some() && config.budget.webhook.is_none() {
        let message = "has no effect without `budget.webhook`";
        found.push(Dangling::new("budget.webhook_secret".into(), message.into()));
    }
    if whole {
        categories(config, &mut found);
        regions(config, &mut found);
    }
    found
}

/// What may be meant, and most likely is not.
pub(super) fn doubts(config: &Config) -> Vec<String> {
    let mut doubts = Vec::new();
    if config.safety.moderation.service.url.is_some() {
        let known = known_categories(config);
        for name in config.safety.categories.keys().filter(|name| !known.contains(name.as_str())) {
            doubts.push(format!(
                "`safety.categories.{name}`: no rule finds it, nor does OpenAI's moderation; has the service a category of that name?"
            ));
        }
    }
    models_of_keys(config, &mut doubts);
    let now = Timestamp::now();
    for key in config.auth.keys.iter().filter(|key| key.expiry().is_some_and(|end| end <= now)) {
        doubts.push(format!("key `{}`: it has ended; nobody is let in with it", key.name));
    }
    let tenants: Vec<&str> = config.tenants.keys().map(String::as_str).collect();
    for key in config.auth.keys.iter().filter(|key| !config.tenants.contains_key(&key.tenant)) {
        let meant = nearest(&key.tenant, &tenants);
        if meant.starts_with("did you mean") {
            doubts
                .push(format!("key `{}`: nothing is said of its tenant `{}`; {meant}", key.name, key.tenant));
        }
    }
    doubts
}

/// The categories that rules find, and, where a moderation service is asked, those that OpenAI's has.
fn known_categories(config: &Config) -> BTreeSet<&str> {
    let safety = &config.safety;
    let builtin = safety::builtin_categories().filter(|_| safety.builtin);
    let service = moderation::CATEGORIES.into_iter().filter(|_| safety.moderation.service.url.is_some());
    let mut known = BTreeSet::new();
    builtin.chain(service).for_each(|name| _ = known.insert(name));
    safety.rules.iter().for_each(|rule| _ = known.insert(rule.category.as_str()));
    known
}

fn categories(config: &Config, found: &mut Vec<Dangling>) {
    // A service may have categories of its own.
    if config.safety.moderation.service.url.is_some() {
        return;
    }
    let known: Vec<&str> = known_categories(config).into_iter().collect();
    for name in config.safety.categories.keys().filter(|name| !known.contains(&name.as_str())) {
        let message = if moderation::CATEGORIES.contains(&name.as_str()) {
            "no rule finds it; a moderation service would (`safety.moderation.service`)".to_owned()
        } else {
            format!("there is no category `{name}`; {}", nearest(name, &known))
        };
        found.push(Dangling::new(format!("safety.categories.{name}"), message));
    }
}

/// A key that may use a model which nobody serves may not use what was meant. Who serves it may depend on the
/// environment.
fn models_of_keys(config: &Config, doubts: &mut Vec<String>) {
    let routes =
        || config.models.iter().flat_map(|(name, route)| std::iter::once(name).chain(&route.aliases));
    let patterns = || config.providers.values().flat_map(|provider| &provider.models);
    let known = |name: &str| {
        let direct =
            name.split_once('/').is_some_and(|(provider, _)| config.providers.contains_key(provider));
        direct
            || routes().any(|route| route == name)
            || patterns().any(|pattern| route::matches(pattern, name))
    };
    for key in &config.auth.keys {
        for name in key.models.iter().flatten().filter(|name| !known(name)) {
            let names: Vec<&str> = routes().map(String::as_str).collect();
            doubts.push(format!(
                "key `{}`: nobody serves its model `{name}`; {}",
                key.name,
                nearest(name, &names)
            ));
        }
    }
}

/// A burst is of requests a minute, and counts nothing without them.
fn bursts(config: &Config, found: &mut Vec<Dangling>) {
    let (rates, bursts) = (&config.limits.requests_per_minute, &config.limits.burst);
    // Of a key and a tenant it holds for those that have a rate of their own, which may be made at any time.
    let scopes = [
        ("user", bursts.user, rates.user),
        ("address", bursts.address, rates.address),
        ("model", bursts.model, rates.model),
        ("global", bursts.global, rates.global),
    ];
    let mut say = |path: String, rate: &str| {
        found.push(Dangling::new(path, format!("has no effect without `{rate}`")));
    };
    for (scope, burst, rate) in scopes {
        if burst.is_some() && rate.is_none() {
            say(format!("limits.burst.{scope}"), &format!("limits.requests_per_minute.{scope}"));
        }
    }
    for (index, key) in config.auth.keys.iter().enumerate() {
        let own = &key.limits;
        if own.burst.is_some() && own.requests_per_minute.or(rates.key).is_none() {
            say(format!("auth.keys[{index}].limits.burst"), "requests_per_minute");
        }
    }
    for (name, tenant) in &config.tenants {
        let own = &tenant.limits;
        if own.burst.is_some() && own.requests_per_minute.or(rates.tenant).is_none() {
            say(format!("tenants.{name}.limits.burst"), "requests_per_minute");
        }
    }
}

/// Types that look for nothing, or share a name.
fn custom_types(config: &Config, found: &mut Vec<Dangling>) {
    let types = &config.pii.custom;
    for (index, custom) in types.iter().enumerate() {
        if types[..index].iter().any(|earlier| earlier.name == custom.name) {
            let message = format!("two types are named `{}`", custom.name);
            found.push(Dangling::new(format!("pii.custom[{index}].name"), message));
        }
        if custom.pattern.is_none() && custom.words.is_empty() {
            let message = "has neither a pattern nor words".into();
            found.push(Dangling::new(format!("pii.custom[{index}].name"), message));
        }
        // One that cannot be read is told where it is read.
        let shortest = custom.pattern.as_deref().and_then(|pattern| regex_syntax::parse(pattern).ok());
        let shortest = shortest.and_then(|pattern| pattern.properties().minimum_len()).unwrap_or_default();
        if shortest > custom.longest {
            let message = format!("is less than the pattern's shortest match, which has {shortest} bytes");
            found.push(Dangling::new(format!("pii.custom[{index}].longest"), message));
        }
    }
}

/// A region is preferred among those that targets are in.
fn regions(config: &Config, found: &mut Vec<Dangling>) {
    let of = |route: &route::RouteSettings| -> Vec<String> {
        route.targets.iter().filter_map(|target| target.region.clone()).collect()
    };
    let mut say = |path: String, region: &str, mut known: Vec<String>| {
        known.sort();
        known.dedup();
        if !known.iter().any(|known| known == region) {
            let message = format!("no target is in the region `{region}`; {}", nearest(region, &known));
            found.push(Dangling::new(path, message));
        }
    };
    if let Some(region) = &config.routing.prefer_region {
        say("routing.prefer_region".into(), region, config.models.values().flat_map(of).collect());
    }
    for (name, route) in &config.models {
        if let Some(region) = &route.prefer_region {
            say(format!("models.{name}.prefer_region"), region, of(route));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::tests::read_with;

    /// That one mistake is told: where `what` stands, in these words. None where nothing stands.
    #[track_caller]
    fn tells(text: &str, what: &str, words: &str) {
        let told = read_with(text, &[]).err().unwrap_or_default();
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        if what.is_empty() {
            return assert!(told.is_empty(), "{text}: {told:#?}");
        }
        let before = &text[..text.rfind(what).unwrap()];
        let (line, column) =
            (before.matches('\n').count() + 1, before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1);
        let start = format!("error: f:{line}:{column}: {words}");
        assert!(
            told.len() == 1 && told[0].starts_with(&start) && told[0].contains('^'),
            "{start}\nin {told:#?}"
        );
    }

    #[test]
    fn what_would_have_no_effect_is_told_with_its_place() {
        let route = "models: {m: {targets: [{provider: extractive, model: x, region: eu}]";
        let row = format!("auth: {{keys: [{{name: a, hash: 'sha256:{}'", "0".repeat(64));
        for (text, what, words) in [
            (
                "safety: {categories: {violance: block}}",
                "block",
                "`safety.categories.violance`: there is no category `violance`; did you mean `violence`?",
            ),
            (
                "safety:\n  categories:\n    Hate: block\n",
                "block",
                "`safety.categories.Hate`: there is no category `Hate`; did you mean `hate`?",
            ),
            ("safety: {categories: {violence: block, illicit/violent: log}}", "", ""),
            (
                "safety: {categories: {violence/graphic: block}}",
                "block",
                "`safety.categories.violence/graphic`: no rule finds it; a moderation service would",
            ),
            (
                "safety: {categories: {violence/graphic: block, own: log}, moderation: {service: {url: 'http://h/'}}}",
                "",
                "",
            ),
            ("safety: {categories: {names: block}, rules: [{category: names, phrases: [x]}]}", "", ""),
            (
                "safety: {builtin: false, categories: {violence: block}}",
                "block",
                "`safety.categories.violence`: no rule finds it",
            ),
            (
                &format!("{route}, prefer_region: ue}}}}"),
                "ue}}",
                "`models.m.prefer_region`: no target is in the region `ue`; there are `eu`",
            ),
            (&format!("{route}, prefer_region: eu}}}}\nrouting: {{prefer_region: eu}}"), "", ""),
            (
                "routing: {prefer_region: eu}",
                "eu}",
                "`routing.prefer_region`: no target is in the region `eu`; there are none",
            ),
            ("routing: {outlier: {eject_for: 10m}}", "outlier", "`routing.outlier.longest`: is less than"),
            (
                "limits: {burst: {model: 5}}",
                "5",
                "`limits.burst.model`: has no effect without `limits.requests_per_minute.model`",
            ),
            ("limits: {burst: {model: 5, key: 5, user: 7}, requests_per_minute: {model: 9}}", "", ""),
            (
                &format!("{row}, limits: {{burst: 4}}}}]}}"),
                "4}",
                "`auth.keys[0].limits.burst`: has no effect",
            ),
            ("tenants: {a: {limits: {burst: 4}}}", "4", "`tenants.a.limits.burst`"),
            ("tenants: {a: {limits: {burst: 4, requests_per_minute: 1}}}", "", ""),
            ("pii: {custom: [{name: a}]}", "a}", "`pii.custom[0].name`: has neither"),
            (
                "pii: {custom: [{name: a, words: [xx]}, {name: a, words: [yy]}]}",
                "a, words",
                "`pii.custom[1].name`: two types are named `a`",
            ),
            (
                "pii: {custom: [{name: a, pattern: 'x{65,70}', longest: 64}]}",
                "64}",
                "`pii.custom[0].longest`: is less than the pattern's shortest match, which has 65",
            ),
            ("pii: {custom: [{name: a, pattern: 'x{60,70}'}]}", "", ""),
            ("budget: {webhook: zzz}", "zzz", "`budget.webhook`: the address has to begin"),
            (
                "budget: {refuse_parameters: [background, 'a b']}",
                "'a b'",
                "`budget.refuse_parameters[1]`: is no name",
            ),
            ("injection: {classifier: {url: ''}}", "''", "`injection.classifier.url`: it is not an address"),
            (
                "injection: {classifier: {timeout: 0s}}",
                "0s",
                "`injection.classifier.timeout`: must be more than 0",
            ),
            (
                "safety: {moderation: {service: {url: 'ftp://h/'}}}",
                "'ftp",
                "`safety.moderation.service.url`: the address has to begin",
            ),
            ("audit: {anchor_url: a.example}", "a.example", "`audit.anchor_url`: the address has to begin"),
            (
                "budget: {webhook_secret: {env: HOME}}",
                "webhook_secret",
                "`budget.webhook_secret`: has no effect without",
            ),
            ("session: {ttl: 0s}", "0s", "`session.ttl`: must be more than 0"),
            ("review: {retention: 36501d}", "36501d", "`review.retention`: `36501d` is longer than `36500d`"),
        ] {
            tells(text, what, words);
        }
    }

    #[test]
    fn what_is_most_likely_not_meant_is_doubted() {
        let doubts = |text: &str| super::doubts(&read_with(text, &[]).unwrap());
        let key = format!("auth: {{keys: [{{name: a, tenant: acm, hash: 'sha256:{}'}}]}}", "0".repeat(64));
        let ended =
            format!("auth: {{keys: [{{name: a, expires: 2020-01-01, hash: 'sha256:{}'}}]}}", "0".repeat(64));
        assert_eq!(doubts(&ended), ["key `a`: it has ended; nobody is let in with it"]);
        assert_eq!(
            doubts(&format!("{key}\ntenants: {{acme: {{}}}}")),
            ["key `a`: nothing is said of its tenant `acm`; did you mean `acme`?"]
        );
        assert!(
            doubts(&format!("{key}\ntenants: {{globex: {{}}}}")).is_empty(),
            "one without limits may be meant"
        );
        let models = key.replace("tenant: acm", "models: [m, odl, extractive/x, sentiment, gpt-5]");
        let models = format!(
            "{models}\nmodels: {{m: {{targets: [{{provider: extractive, model: x}}], aliases: [old]}}}}\nproviders: {{p: {{models: ['gpt-*']}}}}"
        );
        assert_eq!(doubts(&models), ["key `a`: nobody serves its model `odl`; did you mean `old`?"]);
        let service = "moderation: {service: {url: 'http://h/'}}";
        assert_eq!(doubts(&format!("safety: {{categories: {{violance: block}}, {service}}}")).len(), 1);
        assert!(
            doubts(&format!("safety: {{categories: {{violence/graphic: block}}, {service}}}")).is_empty()
        );
    }
}
