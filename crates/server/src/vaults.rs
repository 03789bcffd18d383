//! `/api/vaults`: which vaults there are for the caller, creating one, and who its members are.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use crucible_core::id::{UserId, VaultId};
use crucible_store::accounts::{CreateVaultError, Email, Member, Vault};
use crucible_trust::name::VaultName;
use crucible_trust::rights::{Access, Op, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::body::{JsonBody, Params};
use crate::caller::Caller;
use crate::error::{ApiError, Code};
use crate::routes::Page;
use crate::state::Server;

/// `read` or `write`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessName {
    Read,
    Write,
}

impl From<Access> for AccessName {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Read,
            Access::Write => Self::Write,
        }
    }
}

impl From<AccessName> for Access {
    fn from(name: AccessName) -> Self {
        match name {
            AccessName::Read => Self::Read,
            AccessName::Write => Self::Write,
        }
    }
}

#[derive(Deserialize)]
pub struct Creation {
    name: String,
    /// Of a vault that began on a device; otherwise one is drawn.
    id: Option<String>,
}

#[derive(Deserialize)]
pub struct NewMember {
    email: String,
    access: AccessName,
}

pub async fn list(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit(&server);
    let after = page.after.as_deref().map(name).transpose()?;
    let user = caller.user();
    let reached =
        server.quick(move |s| Ok(s.accounts().vaults_of(user, after.as_ref(), limit)?)).await?;
    let next = (reached.len() == limit as usize)
        .then(|| reached.last().map(|(vault, _)| vault.name.to_string()))
        .flatten();
    let now_ms = server.now_ms();
    let vaults: Vec<Value> = reached
        .iter()
        .filter(|(vault, _)| {
            let request = Request { op: Op::Read, vault: Some(&vault.name), path: None, now_ms };
            caller.rights().permit(&request).is_ok()
        })
        .map(|(vault, access)| shown(vault, (*access).min(caller.rights().access), &caller))
        .collect();
    Ok(Json(json!({ "vaults": vaults, "next": next })))
}

pub async fn create(
    State(server): State<Arc<Server>>,
    caller: Caller,
    JsonBody(creation): JsonBody<Creation>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let name = name(&creation.name)?;
    let request =
        Request { op: Op::Create, vault: Some(&name), path: None, now_ms: server.now_ms() };
    caller.capability.authorize(&request)?;
    let id = match creation.id {
        None => VaultId::from_bytes(crate::routes::random()?),
        Some(id) => id
            .parse()
            .map_err(|_| ApiError::new(Code::Malformed, "a vault's id is 32 hex digits"))?,
    };
    let user = caller.user();
    let vault = server
        .blocking(move |s| {
            let created = s.accounts().create_vault(id, &name, user, s.now_ms());
            let vault = created.map_err(|error| match error {
                CreateVaultError::Taken => ApiError::new(Code::Exists, error.to_string()),
                CreateVaultError::Accounts(error) => error.into(),
            })?;
            // Made again on first use should this fail: `Rounds::create` may be called twice.
            s.rounds().create(&vault.id)?;
            Ok(vault)
        })
        .await?;
    tracing::info!(vault = %vault.name, "vault created");
    Ok((StatusCode::CREATED, Json(shown(&vault, Access::Write, &caller))))
}

pub async fn show(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let entry = server.enter(&caller, &vault, Op::Read).await?;
    let id = entry.vault.id;
    let root = server.blocking(move |s| Ok(s.rounds().root(&id)?)).await?;
    let mut value = shown(&entry.vault, entry.access, &caller);
    value["root"] = json!(root.map(|root| root.to_string()));
    Ok(Json(value))
}

pub async fn members(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    Params(page): Params<Page>,
) -> Result<Json<Value>, ApiError> {
    let limit = page.limit(&server);
    let after = page.after.as_deref().map(user_id).transpose()?;
    let vault = server.enter(&caller, &vault, Op::Read).await?.vault;
    let id = vault.id;
    let members = server.quick(move |s| Ok(s.accounts().members(id, after, limit)?)).await?;
    let next = (members.len() == limit as usize)
        .then(|| members.last().map(|member| member.user.id.to_string()))
        .flatten();
    let members: Vec<Value> = members.iter().map(|member| member_shown(&vault, member)).collect();
    Ok(Json(json!({ "members": members, "next": next })))
}

pub async fn add_member(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(vault): Path<String>,
    JsonBody(new): JsonBody<NewMember>,
) -> Result<Json<Value>, ApiError> {
    let email = Email::new(&new.email)
        .map_err(|error| ApiError::new(Code::Malformed, error.to_string()))?;
    let vault = owned(&server, &caller, &vault).await?;
    let shown = server
        .blocking(move |s| {
            let user = s.accounts().user_by_email(&email)?;
            let user = user.ok_or_else(|| {
                ApiError::not_found("user").hint("add them with `cru auth add-user` first")
            })?;
            let access = new.access.into();
            if user.id == vault.owner && access != Access::Write {
                let message = "the owner of a vault can write to it";
                return Err(ApiError::new(Code::Forbidden, message));
            }
            s.accounts().set_member(vault.id, user.id, access)?;
            Ok(member_shown(&vault, &Member { user, access }))
        })
        .await?;
    server.live().recheck();
    Ok(Json(shown))
}

pub async fn remove_member(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path((vault, user)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let user = user_id(&user)?;
    let vault = owned(&server, &caller, &vault).await?;
    if user == vault.owner {
        return Err(ApiError::new(Code::Forbidden, "the owner of a vault stays a member"));
    }
    let removed = server.blocking(move |s| Ok(s.accounts().remove_member(vault.id, user)?)).await?;
    server.live().recheck();
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(ApiError::not_found("member")) }
}

async fn owned(server: &Arc<Server>, caller: &Caller, vault: &str) -> Result<Vault, ApiError> {
    let vault = server.enter(caller, vault, Op::Write).await?.vault;
    if vault.owner == caller.user() {
        return Ok(vault);
    }
    Err(ApiError::new(Code::Forbidden, "only the owner of a vault says who its members are"))
}

fn shown(vault: &Vault, access: Access, caller: &Caller) -> Value {
    json!({
        "id": vault.id.to_string(),
        "name": vault.name.as_str(),
        "access": AccessName::from(access),
        "owner": vault.owner == caller.user(),
        "created_ms": vault.created_ms,
    })
}

fn member_shown(vault: &Vault, member: &Member) -> Value {
    json!({
        "user": member.user.id.to_string(),
        "email": member.user.email.as_str(),
        "access": AccessName::from(member.access),
        "owner": vault.owner == member.user.id,
    })
}

fn name(text: &str) -> Result<VaultName, ApiError> {
    VaultName::new(text).map_err(|error| ApiError::new(Code::Malformed, error.to_string()))
}

fn user_id(text: &str) -> Result<UserId, ApiError> {
    text.parse().map_err(|_| ApiError::new(Code::BadRequest, "a user's id is 32 hex digits"))
}
