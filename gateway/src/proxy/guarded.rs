//! Is the content allowed? Prompts are looked at before anything is asked, answers before the caller gets them.

use spillway_plugins::guard::Finding;
use spillway_plugins::prompt;
use spillway_plugins::tokens::input_bound;

use super::Gateway;
use super::ctx::RequestCtx;
use super::refusal::Refusal;
use crate::guard::{Guard, Judgement};

/// The guard that looks at a request, if one does.
pub(super) fn guard_of(ctx: &RequestCtx) -> Option<&Guard> {
    ctx.runtime.guard.as_ref().filter(|_| !ctx.internal && ctx.consumer().is_none_or(|consumer| consumer.guard))
}

/// Looks at a prompt.
///
/// # Errors
/// 403 for what is not allowed; 503 if nobody can say, and then nothing may pass.
pub(super) async fn prompt(gateway: &Gateway, ctx: &mut RequestCtx) -> Result<(), Refusal> {
    let (Some(inquiry), Some(body)) = (&ctx.inquiry, &ctx.body) else { return Ok(()) };
    let body = body.bytes();
    let runtime = std::sync::Arc::clone(&ctx.runtime);
    let Some(guard) = guard_of(ctx).and(runtime.guard.as_ref()) else { return Ok(()) };
    let tokens = input_bound(body, inquiry.fields.encoded);
    let began = gateway.clock.now();
    let judgement = match prompt::read(inquiry.api, body) {
        Some(prompt) => guard.prompt(&prompt, tokens, &gateway.clock).await,
        None => guard.unreadable("request"),
    };
    ctx.waited += gateway.clock.now().since(began);
    match judgement {
        Judgement::Passed => Ok(()),
        Judgement::Blocked(finding) => Err(refusal(&finding)),
        Judgement::Unknown => Err(Refusal::ContentUnchecked),
    }
}

/// What a caller is told: the category, never the text.
pub(super) fn refusal(finding: &Finding) -> Refusal {
    Refusal::ContentBlocked { what: finding.to_string() }
}
