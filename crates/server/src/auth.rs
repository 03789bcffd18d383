//! `/api/auth`: pairing a device, inviting one, and the devices of a user.
//!
//! Invariant: nobody hands out, or takes away, more than they have: an invitation is at most
//! what the inviter's own token allows, and a device is revoked by one that could do as much.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use crucible_core::id::DeviceId;
use crucible_core::vault_path::VaultPath;
use crucible_store::accounts::{Device, Invite, IssuedToken, Joiner, MintError, RedeemFailure};
use crucible_trust::capability::Subject;
use crucible_trust::name::VaultName;
use crucible_trust::pairing::PairingCode;
use crucible_trust::rights::{Op, Rights, Within};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::{JsonBody, Params};
use crate::caller::{Caller, address};
use crate::error::{ApiError, Code};
use crate::routes::{Page, random};
use crate::state::Server;
use crate::vaults::AccessName;

/// Shortest beginning of a device's id that stands for it.
const PREFIX_MIN: usize = 4;

#[derive(Deserialize)]
pub struct PairBody {
    code: String,
    device: String,
    name: String,
}

#[derive(Deserialize)]
pub struct EnrollBody {
    device: String,
    name: String,
}

/// What an invitation is limited to. A limit this server does not know is refused: to overlook it
/// would give more than was asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteBody {
    /// Without it the new device may do all that the inviting one may.
    vault: Option<String>,
    access: Option<AccessName>,
    /// The end of the new device's token, in milliseconds since 1970.
    expires_ms: Option<u64>,
}

/// A try at pairing, counted before anything of the body is read: so that many at once are counted
/// too. One with a good code is given back.
pub struct Try(IpAddr);

impl FromRequestParts<Arc<Server>> for Try {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, ApiError> {
        let address = address(parts, server);
        server.admit_pairing(&address).map(|()| Self(address))
    }
}

pub async fn pair(
    State(server): State<Arc<Server>>,
    Try(address): Try,
    JsonBody(body): JsonBody<PairBody>,
) -> Result<Json<Value>, ApiError> {
    let code: PairingCode = body.code.parse().map_err(code_refused)?;
    let device: DeviceId = body
        .device
        .parse()
        .map_err(|_| ApiError::new(Code::Malformed, "a device's id is 64 hex digits"))?;
    let seed = random()?;
    let joiner = Joiner { device, name: body.name };
    let redeemed = server
        .blocking(move |s| {
            let paired = s.accounts().redeem(&code, &joiner, seed, s.now_ms());
            let paired = paired.map_err(|failure| refuse(s, failure))?;
            let user = s.accounts().user(paired.invite.user)?;
            Ok((paired, user))
        })
        .await?;
    let (paired, user) = redeemed;
    server.give_back_pairing(&address);
    server.metrics().paired.add(1);
    tracing::info!(user = %paired.invite.user.short(), device = %device.short(), "device paired");
    Ok(Json(json!({
        "token": paired.token.reveal(),
        "user": paired.invite.user.to_string(),
        "email": user.map(|user| user.email.to_string()),
        "device": device.to_string(),
        "rights": rights_shown(&paired.invite.rights),
    })))
}

/// A device of the caller's own, with a token that allows what the caller's does: so that each
/// device is listed and revoked alone, whichever token it came with.
pub async fn enroll(
    State(server): State<Arc<Server>>,
    caller: Caller,
    JsonBody(body): JsonBody<EnrollBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let device: DeviceId = body
        .device
        .parse()
        .map_err(|_| ApiError::new(Code::Malformed, "a device's id is 64 hex digits"))?;
    let seed = random()?;
    let subject = Subject { user: caller.user(), device };
    let rights = caller.rights().clone();
    let (token, user) = server
        .blocking(move |s| {
            let minted = s.accounts().mint(subject, &body.name, &rights, seed, s.now_ms());
            let token = minted.map_err(|error| match error {
                MintError::Accounts(error) => error.into(),
                error => ApiError::new(Code::Forbidden, error.to_string()),
            })?;
            Ok((token, s.accounts().user(subject.user)?))
        })
        .await?;
    tracing::info!(device = %device.short(), "device enrolled");
    let body = json!({
        "token": token.reveal(),
        "user": subject.user.to_string(),
        "email": user.map(|user| user.email.to_string()),
        "device": device.to_string(),
        "rights": rights_shown(caller.rights()),
    });
    Ok((StatusCode::CREATED, Json(body)))
}

fn code_refused(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::CodeRefused, why.to_string()).hint(
        "a code works once, for ten minutes; `cru invite` on a device that is in prints another",
    )
}

fn refuse(server: &Server, failure: RedeemFailure) -> ApiError {
    match failure {
        RedeemFailure::Code(why) => {
            server.metrics().codes_refused.add(1);
            code_refused(why)
        }
        RedeemFailure::Mint(MintError::Accounts(error)) | RedeemFailure::Accounts(error) => {
            error.into()
        }
        RedeemFailure::Mint(error) => ApiError::new(Code::Forbidden, error.to_string()),
    }
}

pub async fn invite(
    State(server): State<Arc<Server>>,
    caller: Caller,
    JsonBody(body): JsonBody<InviteBody>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let mut asked = Rights { create: body.vault.is_none(), ..Rights::ALL };
    if let Some(text) = &body.vault {
        let entry = server.enter(&caller, text, Op::Read).await?;
        asked = Rights::of_vault(&entry.vault.name, entry.access);
    }
    let explicit = Rights {
        access: body.access.map_or(asked.access.min(caller.rights().access), Into::into),
        expires_ms: body.expires_ms,
        ..asked
    };
    let granted = explicit.meet(caller.rights());
    // Less than was asked for would surprise later; more than the inviter has is not given.
    if granted.access != explicit.access {
        return Err(ApiError::new(
            Code::Forbidden,
            "this device may only read, and so may whom it invites",
        )
        .hint("invite with --read-only"));
    }
    // Rounds are about whole vaults: a device with such a token could not make one.
    if granted.folders != Within::All {
        let message = "this device reaches some folders alone, and may invite nobody";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    let code = PairingCode::from_entropy(random()?);
    let shown = code.to_string();
    let invite = Invite { user: caller.user(), rights: granted.clone() };
    let max = server.limits().invitations_max;
    let door = server
        .blocking(move |s| {
            let now_ms = s.now_ms();
            if s.accounts().open_invitations(invite.user, now_ms)? >= max {
                let message = "too many pairing codes are open; they end after ten minutes";
                return Err(ApiError::new(Code::RateLimited, message));
            }
            Ok(s.accounts().open_invitation(&code, &invite, now_ms)?)
        })
        .await?;
    let body = json!({
        "code": shown,
        "expires_ms": door.expires_ms,
        "listens_on": server.config().listen.to_string(),
        "url_for_others": server.config().url_for_others,
        "rights": rights_shown(&granted),
    });
    Ok((StatusCode::CREATED, Json(body)))
}

pub async fn whoami(
    State(server): State<Arc<Server>>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let (user, device) = (caller.user(), caller.device());
    let (email, name) = server
        .quick(move |s| {
            let email = s.accounts().user(user)?.map(|user| user.email.to_string());
            Ok((email, s.accounts().device(device)?.map(|device| device.name)))
        })
        .await?;
    Ok(Json(json!({
        "user": user.to_string(),
        "email": email,
        "device": device.to_string(),
        "device_name": name,
        "token": caller.capability.id().to_string(),
        "rights": rights_shown(caller.rights()),
    })))
}

pub async fn devices(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit(&server);
    let after = page.after.map(|id| id.parse::<DeviceId>()).transpose();
    let after = after.map_err(|_| ApiError::new(Code::BadRequest, "a wrong cursor"))?;
    let user = caller.user();
    let devices = server.quick(move |s| Ok(s.accounts().devices(user, after, limit)?)).await?;
    let next = (devices.len() == limit as usize)
        .then(|| devices.last().map(|device| device.id.to_string()))
        .flatten();
    let devices: Vec<Value> =
        devices.iter().map(|device| device_shown(device, caller.device())).collect();
    Ok(Json(json!({ "devices": devices, "next": next })))
}

pub async fn revoke(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    if id.len() < PREFIX_MIN || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        let message = format!("a device is named by {PREFIX_MIN} to 64 hex digits of its id");
        return Err(ApiError::new(Code::BadRequest, message));
    }
    let revoked = server.blocking(move |s| revoke_now(s, &caller, &id)).await?;
    server.live().recheck();
    tracing::info!(revoked = %revoked.short(), "device revoked");
    Ok(StatusCode::NO_CONTENT)
}

fn revoke_now(server: &Server, caller: &Caller, id: &str) -> Result<DeviceId, ApiError> {
    let found = server.accounts().devices_by_prefix(caller.user(), id)?;
    let &[device] = found.as_slice() else {
        return Err(if found.is_empty() {
            ApiError::not_found("device")
        } else {
            ApiError::new(Code::Ambiguous, "more than one device has an id that begins so")
        });
    };
    let now_ms = server.now_ms();
    if device != caller.device() {
        for rights in server.accounts().live_rights(device, now_ms)? {
            if !rights.within(caller.rights()) {
                let message = "that device may do more than this one";
                return Err(ApiError::new(Code::Forbidden, message)
                    .hint("revoke it from a device with wider rights, or on the server"));
            }
        }
    }
    server.accounts().revoke_device(caller.user(), device, now_ms)?;
    Ok(device)
}

fn rights_shown(rights: &Rights) -> Value {
    let vaults = match &rights.vaults {
        Within::All => None,
        Within::Only(names) => Some(names.iter().map(VaultName::folded).collect::<Vec<_>>()),
    };
    let folders = match &rights.folders {
        Within::All => None,
        Within::Only(folders) => Some(folders.iter().map(VaultPath::as_str).collect::<Vec<_>>()),
    };
    json!({
        "access": AccessName::from(rights.access),
        "create": rights.create,
        "vaults": vaults,
        "folders": folders,
        "expires_ms": rights.expires_ms,
    })
}

fn device_shown(device: &Device, own: DeviceId) -> Value {
    let token = |token: &IssuedToken| {
        json!({
            "id": token.id.to_string(),
            "rights": rights_shown(&token.rights),
            "issued_ms": token.issued_ms,
            "revoked_ms": token.revoked_ms,
        })
    };
    json!({
        "id": device.id.to_string(),
        "name": device.name,
        "this": device.id == own,
        "created_ms": device.created_ms,
        "seen_ms": device.seen_ms,
        "revoked_ms": device.revoked_ms,
        "tokens": device.tokens.iter().map(token).collect::<Vec<_>>(),
    })
}
