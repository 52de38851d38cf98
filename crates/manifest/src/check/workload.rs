// SPDX-License-Identifier: Apache-2.0
//! What makes pods: selectors against templates, names that leave room for their pods', policies that fit.

use crate::error::Problem;
use crate::objects::{LabelSelector, Object, Operator, PodTemplate, RestartPolicy, StatefulSet};
use crate::walk::suggest;

use super::{Known, Place, pod, rollout};

pub(super) fn check(place: &mut Place<'_>, known: &Known<'_>) {
    let object = &place.source.object;
    let Some(template) = object.template() else {
        return;
    };
    let (selector, longest, room) = match object {
        Object::Deployment(object) => (Some(&object.spec.selector), 47, "16 letters"),
        Object::ReplicaSet(object) => (Some(&object.spec.selector), 57, "6 letters"),
        Object::StatefulSet(object) => (Some(&object.spec.selector), 57, "a number"),
        Object::DaemonSet(object) => (Some(&object.spec.selector), 57, "6 letters"),
        Object::CronJob(_) => (None, 46, "the time and 6 letters"),
        _ => (None, 57, "6 letters"),
    };
    if let Some(selector) = selector {
        self::selector(place, selector, template);
    }
    let name = object.metadata().name.as_str();
    if name.len() > longest {
        let problem = Problem::TooLong {
            value: name.to_owned(),
            longest,
            room,
        };
        place.fail("metadata.name", problem);
    }
    let path = match object {
        Object::CronJob(_) => "spec.jobTemplate.spec.template",
        _ => "spec.template",
    };
    let annotations = &template.metadata.annotations;
    pod::marks(place, &format!("{path}.metadata"), annotations);
    restarts(place, &format!("{path}.spec"), template);
    pod::check(place, &format!("{path}.spec"), &template.spec, known);
    match object {
        Object::Deployment(deployment) => rollout::check(place, &deployment.spec),
        Object::StatefulSet(set) => {
            rollout::numbered(place, &set.spec);
            names(place, set, known);
        }
        Object::DaemonSet(set) => rollout::daemon(place, &set.spec),
        _ => {}
    }
}

fn selector(place: &mut Place<'_>, selector: &LabelSelector, template: &PodTemplate) {
    for (index, one) in selector.match_expressions.iter().enumerate() {
        let wants = matches!(one.operator, Operator::In | Operator::NotIn);
        let path = format!("spec.selector.matchExpressions[{index}].values");
        if wants && one.values.is_empty() {
            let what = "In and NotIn need at least one value";
            place.fail(&path, Problem::Missing { what });
        } else if !wants && !one.values.is_empty() {
            let reason = "Exists and DoesNotExist take no values";
            place.fail(&path, Problem::Unsupported { reason });
        }
    }
    let path = match selector.match_labels.is_empty() && !selector.is_empty() {
        true => "spec.selector.matchExpressions",
        false => "spec.selector.matchLabels",
    };
    if selector.is_empty() {
        let what = "it must select the template's labels";
        place.fail(path, Problem::Missing { what });
    } else if !selector.matches(&template.metadata.labels) {
        let selector = selector.to_string();
        place.fail(path, Problem::SelectorMismatch { selector });
    }
}

fn restarts(place: &mut Place<'_>, path: &str, template: &PodTemplate) {
    let policy = template.spec.restarts();
    let job = matches!(place.source.object, Object::Job(_) | Object::CronJob(_));
    let at = format!("{path}.restartPolicy");
    match (job, policy) {
        (true, RestartPolicy::Always) => {
            let value = "Always".to_owned();
            let expected = "OnFailure or Never: a job's pods end";
            place.fail(&at, Problem::Malformed { value, expected });
        }
        (false, RestartPolicy::OnFailure | RestartPolicy::Never) => {
            let value = format!("{policy:?}");
            let expected = "Always: these pods are to run for ever; a Job's pods end";
            place.fail(&at, Problem::Malformed { value, expected });
        }
        _ => {}
    }
    if !job && template.spec.active_deadline_seconds.is_some() {
        let reason = "these pods are to run for ever; a Job's pods end";
        let path = format!("{path}.activeDeadlineSeconds");
        place.fail(&path, Problem::Unsupported { reason });
    }
}

/// Without its headless service the pods of a StatefulSet have no names of their own.
fn names(place: &mut Place<'_>, set: &StatefulSet, known: &Known<'_>) {
    let (here, name) = (place.namespace(), set.spec.service_name.as_str());
    if name.is_empty() {
        return;
    }
    let mine = || known.services.iter().filter(|(n, ..)| *n == here);
    let reason = match mine().find(|(_, known, _)| *known == name) {
        Some((_, _, service)) if service.is_headless() => return,
        Some(_) => format!(
            "Service {name:?} is not headless (clusterIP: None): the pods have no names of their own"
        ),
        None => {
            let near = suggest(name, mine().map(|(_, name, _)| *name));
            let hint = near
                .map(|s| format!(", did you mean {s:?}?"))
                .unwrap_or_default();
            format!("there is no Service {name:?} here{hint}: the pods have no names of their own")
        }
    };
    place.warn("spec.serviceName", reason);
}
