//! Azure's own spillover: a resource whose provisioned deployment is full has another of its deployments serve the
//! request, and says so in the answer's head.

use std::sync::Arc;

use super::attempt_state::AttemptState;
use super::retry_state::RetryState;
use crate::request::{Facts, ModelRequest};
use crate::runtime::Spilled;

/// The deployment that was asked. Its presence says that another one served.
const FROM: &str = "x-ms-spillover-from-deployment";
/// The deployment that served.
const BY: &str = "x-ms-deployment-name";
/// The status with which the deployment that was asked refused.
const ERROR: &str = "x-ms-spillover-error";
/// Longest name of a deployment.
const LONGEST: usize = 64;

/// Notes whether another deployment served this attempt, by the fields of its answer's head. If so, the member refused
/// the request, with `refused_with` (429 for lack of capacity). The account of its provisioned throughput learns that when
/// the attempt's outcome is recorded.
pub(super) fn note<'h>(facts: &Facts, model_request: &ModelRequest, state: &mut AttemptState, field: impl Fn(&str) -> Option<&'h [u8]>) {
    state.spilled_to = None;
    if field(FROM).is_none() {
        return;
    }
    let text = |name: &str| std::str::from_utf8(field(name)?).ok().map(str::trim);
    let is_name = |name: &&str| (1..=LONGEST).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    let deployment = text(BY).filter(is_name).unwrap_or("(unknown)");
    let member = &model_request.model.members[state.member];
    let backend = model_request.model.route.members()[state.member].backend;
    let runtime = &facts.runtime;
    let price = || runtime.config.prices.of_deployment(&runtime.backends[backend].config, &model_request.model.name, deployment);
    let refused_with: Option<u16> = text(ERROR).and_then(|status| status.parse().ok());
    member.metrics.count_spillover(refused_with);
    if refused_with.is_some_and(|status| status != 429) {
        // It took nothing of the provisioned throughput, and this says nothing about how full that is.
        state.booking = None;
    }
    state.spilled_to = Some(member.spilled_to(deployment, price));
}

/// An attempt failed though another deployment was asked as well: members that are this other deployment count as tried.
pub(super) fn rule_out_second(model_request: &ModelRequest, state: &AttemptState, retry_state: &mut RetryState) {
    let Some(Spilled { place, .. }) = state.spilled_to.as_deref() else { return };
    let members = model_request.model.route.members().iter().enumerate();
    let same = members.filter(|(_, member)| {
        let id = &member.target.id;
        id.backend == place.backend && id.deployment == place.deployment
    });
    let same: Vec<usize> = same.map(|(index, _)| index).filter(|index| !retry_state.tried.contains(index)).collect();
    retry_state.tried.extend(same);
}

/// The deployment that served an attempt in place of the one that was asked.
pub(super) fn served_by(state: &AttemptState) -> Option<Arc<str>> {
    state.spilled_to.as_ref().map(|spilled| Arc::clone(&spilled.place.deployment))
}
