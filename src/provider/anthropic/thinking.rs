//! How much a model of Anthropic's may think, and what that allows beside it.
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::model::Abilities;
use crate::{
    chat::{Family, Reasoning, Request},
    wire,
};

/// The API wants a limit; this is ours where the caller gives none.
const MOST_TOKENS: u32 = 4096;
/// The same for a model that decides itself how much of it goes into thinking.
const MOST_TOKENS_ADAPTIVE: u32 = 16_384;
/// The API takes no smaller budget.
const LEAST_BUDGET: u32 = 1024;

/// The parameters that hang together with thinking.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan<'a> {
    pub(super) thinking: Option<Thinking<'a>>,
    pub(super) effort: Option<&'a str>,
    pub(super) max_tokens: u32,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
}

/// The `thinking` object.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Thinking<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_tokens: Option<u32>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    rest: Option<Map<String, Value>>,
}

impl Thinking<'_> {
    fn of(kind: &str, budget_tokens: Option<u32>) -> Thinking<'_> {
        Thinking { kind, budget_tokens, rest: None }
    }
}

/// Decides what is sent. `forced` says that a tool must be called, which does
/// not go together with a budget.
pub(super) fn plan(chat: &Request, able: Abilities, forced: bool) -> Plan<'_> {
    let mut plan = Plan { temperature: chat.temperature, top_p: chat.top_p, ..Plan::default() };
    let ours = chat.family == Family::Anthropic;
    if let Some(reasoning) = &chat.reasoning {
        if ours {
            as_spelled(&mut plan, reasoning, able);
        } else {
            translated(&mut plan, reasoning, able, forced, chat.max_tokens);
        }
    }
    let budget = plan.thinking.as_ref().and_then(|thinking| thinking.budget_tokens);
    let adaptive = plan.thinking.as_ref().is_some_and(|thinking| thinking.kind == "adaptive");
    plan.max_tokens = chat.max_tokens.unwrap_or(match budget {
        Some(budget) => MOST_TOKENS.saturating_add(budget),
        None if adaptive => MOST_TOKENS_ADAPTIVE,
        None => MOST_TOKENS,
    });
    if !ours {
        // Other APIs go up to 2; models that think, and all newer ones, choose themselves.
        let free = able.sampling && plan.thinking.is_none();
        plan.temperature = plan.temperature.filter(|_| free).map(|temperature| temperature.min(1.0));
        // Several models refuse both at once.
        plan.top_p = plan.top_p.filter(|_| free && plan.temperature.is_none());
    }
    plan
}

/// What a caller of this very API said, as it said it.
fn as_spelled<'a>(plan: &mut Plan<'a>, reasoning: &'a Reasoning, able: Abilities) {
    plan.effort = reasoning.effort.as_deref();
    plan.thinking = match reasoning.budget {
        Some(0) => Some(Thinking::of("disabled", None)),
        // A route may lead to a model that knows no budgets any more; the caller cannot know.
        Some(budget) if able.thinks && !able.budget => {
            plan.effort = plan.effort.or(Some(wire::effort_of(budget)));
            Some(Thinking::of("adaptive", None))
        }
        Some(budget) => Some(Thinking::of("enabled", Some(budget))),
        None if reasoning.rest.is_empty() => None,
        None => {
            Some(Thinking::of(reasoning.rest.get("type").and_then(Value::as_str).unwrap_or("adaptive"), None))
        }
    };
    if let Some(thinking) = &mut plan.thinking {
        let mut rest = reasoning.rest.clone();
        rest.retain(|name, _| name != "type" && name != "budget_tokens");
        thinking.rest = Some(rest).filter(|rest| !rest.is_empty());
    }
}

/// What a caller of another API wants, as far as the model can.
fn translated<'a>(
    plan: &mut Plan<'a>,
    reasoning: &'a Reasoning,
    able: Abilities,
    forced: bool,
    max_tokens: Option<u32>,
) {
    let effort = reasoning.effort.as_deref();
    let budget = reasoning.budget.or_else(|| wire::budget_of(effort?)).filter(|budget| *budget > 0);
    let Some(budget) = budget.filter(|_| able.thinks) else { return };
    if able.adaptive {
        plan.thinking = Some(Thinking::of("adaptive", None));
        plan.effort = Some(match effort {
            Some("minimal" | "low") => "low",
            Some("medium") => "medium",
            // Not every model has the words above it.
            Some("high" | "xhigh" | "max") => "high",
            _ => wire::effort_of(budget),
        });
    } else if !forced {
        // The answer needs room beside the thought.
        let room = max_tokens.map_or(budget, |most| budget.min(most / 2));
        plan.thinking = (room >= LEAST_BUDGET).then(|| Thinking::of("enabled", Some(room)));
    }
}

/// A copy of `schema` as the API wants it: objects have no other fields than those named.
pub(super) fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(close);
            let is_schema = map.get("type").is_some_and(|kind| kind == "object");
            if is_schema && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(model: &str, family: Family, reasoning: Reasoning, max_tokens: Option<u32>) -> Value {
        let chat = Request {
            family,
            reasoning: Some(reasoning),
            max_tokens,
            temperature: Some(1.5),
            top_p: Some(0.5),
            ..Request::default()
        };
        let plan = plan(&chat, Abilities::of(model), false);
        json!([plan.thinking, plan.effort, plan.max_tokens, plan.temperature, plan.top_p])
    }

    fn effort(effort: &str) -> Reasoning {
        Reasoning { effort: Some(effort.into()), ..Reasoning::default() }
    }

    fn budget(budget: u32) -> Reasoning {
        Reasoning { budget: Some(budget), ..Reasoning::default() }
    }

    #[test]
    fn an_effort_becomes_what_the_model_knows() {
        let of = |model, effort_: &str, most| planned(model, Family::OpenAi, effort(effort_), most);
        let enabled = |budget| json!({"type": "enabled", "budget_tokens": budget});
        assert_eq!(of("claude-sonnet-4-5", "low", None), json!([enabled(4096), null, 8192, null, null]));
        assert_eq!(
            of("claude-sonnet-4-5", "high", Some(8000)),
            json!([enabled(4000), null, 8000, null, null])
        );
        assert_eq!(of("claude-sonnet-4-5", "high", Some(500)), json!([null, null, 500, 1.0, null]));
        assert_eq!(of("claude-3-5-haiku", "high", None), json!([null, null, 4096, 1.0, null]));
        let adaptive = json!({"type": "adaptive"});
        assert_eq!(of("claude-opus-4-7", "xhigh", Some(900)), json!([adaptive, "high", 900, null, null]));
        assert_eq!(of("claude-opus-4-7", "none", None), json!([null, null, 4096, null, null]));
    }

    #[test]
    fn a_caller_of_this_api_is_taken_at_its_word() {
        let of = |model, reasoning| planned(model, Family::Anthropic, reasoning, Some(9000));
        let enabled = json!({"type": "enabled", "budget_tokens": 2000});
        assert_eq!(of("claude-sonnet-4-5", budget(2000)), json!([enabled, null, 9000, 1.5, 0.5]));
        assert_eq!(of("claude-sonnet-4-5", budget(0))[0], json!({"type": "disabled"}));
        assert_eq!(of("claude-opus-4-7", budget(2000))[0], json!({"type": "adaptive"}));
        let rest = json!({"type": "adaptive", "display": "omitted"}).as_object().cloned().unwrap();
        let adaptive = Reasoning { rest, effort: Some("max".into()), budget: None };
        let expected = json!([{"type": "adaptive", "display": "omitted"}, "max", 9000, 1.5, 0.5]);
        assert_eq!(of("claude-opus-4-6", adaptive), expected);
    }

    #[test]
    fn schemas_are_closed_at_every_depth() {
        let open =
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}});
        let expected = json!({"type": "object", "additionalProperties": false, "properties": {"a": {
            "type": "array", "items": {"type": "object", "additionalProperties": false}}}});
        assert_eq!(closed(&open), expected);
    }
}
