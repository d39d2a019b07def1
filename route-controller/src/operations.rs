//! What can be asked of a running controller: by the admin API, and by a program that runs one within itself.

use crate::api_tokens::{self, ApiTokenRecord, ApiTokens};
use crate::ca;
use crate::clock;
use crate::engine::{EngineHandle, Request};
use crate::history::History;
use crate::policy_operations::policy_of;
use crate::refusal::{Refusal, RefusalKind};
use crate::rows::{
    ApiTokenAnswer, ApiTokenRequest, ApiTokenRow, JoinTokenAnswer, JoinTokenRequest, JoinTokenRow, LinkRow,
    NodeRow, RouteRow, RoutesQuery, TokenAnswer, TokenKeyRequest, TokenKeyRow, TokenRequest,
};
use crate::store::{JoinRecord, JoinTokenId};
use crate::stream_rows::StreamRow;
use crate::tokens::{TokenIssuer, hex, unhex};
use control_proto::{JoinSecret, JoinToken, check_relay_name, limits::KEY_ID_BYTES};
use route_core::{RouteFilter, StatusView};
use std::sync::Arc;
use wire_format::control::{TokenKey, limits};
use wire_format::{Epoch, Plane};

/// How long a join token can be used if nothing else is asked for.
const JOIN_TTL_DEFAULT_S: u64 = 24 * 3600;
/// Longest that may be asked for.
const JOIN_TTL_MAX_S: u64 = 366 * 24 * 3600;
/// Longest that may be asked for a token of the admin API.
const API_TTL_MAX_S: u64 = 366 * 24 * 3600;
/// Relays named in a hint.
const NAMES_IN_HINT: usize = 8;

/// A running controller, to ask things of. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    pub(crate) engine: EngineHandle,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) api_tokens: Arc<ApiTokens>,
    pub(crate) ca_sha256: [u8; 32],
    /// What was.
    pub(crate) history: Arc<History>,
    /// Where relays find the controllers; empty if nobody told.
    pub(crate) advertise: Arc<[String]>,
}

impl Operations {
    /// SHA-256 of the overlay's CA certificate.
    pub fn ca_sha256(&self) -> [u8; 32] {
        self.ca_sha256
    }

    /// Every relay known, by index.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, Refusal> {
        let views = self.engine.ask(|core, now| core.nodes(now)).await?;
        let mut expiries = self.engine.call(|answer| Request::Expiries { answer }).await?;
        let rows = views.into_iter().map(NodeRow::from).map(|row| {
            let certificate_expires_unix_s = expiries.remove(&row.name);
            NodeRow { certificate_expires_unix_s, ..row }
        });
        Ok(rows.collect())
    }

    /// Cuts a relay off, until it joins anew with a new join token: its session ends, its neighbours cut their links to
    /// it, its certificates and unused join tokens are void. It is durable when this returns.
    ///
    /// # Errors
    /// If no relay has that name, or the controller stops.
    pub async fn revoke_node(&self, name: String) -> Result<(), Refusal> {
        self.engine.call(|answer| Request::Revoke { name, answer }).await
    }

    /// Every direction of every link reported.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn links(&self) -> Result<Vec<LinkRow>, Refusal> {
        let views = self.engine.ask(|core, now| core.links(now)).await?;
        Ok(views.into_iter().map(LinkRow::from).collect())
    }

    /// Every stream, by name.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn streams(&self) -> Result<Vec<StreamRow>, Refusal> {
        let views = self.engine.ask(|core, _| core.streams()).await?;
        Ok(views.into_iter().map(StreamRow::from).collect())
    }

    /// Route tables: those rows that the query asks for.
    ///
    /// # Errors
    /// If it names an unknown relay, or the controller stops.
    pub async fn routes(&self, query: RoutesQuery) -> Result<Vec<RouteRow>, Refusal> {
        if let Some(at) = query.at {
            return self.routes_at(query, at).await;
        }
        let routes = move |core: &route_core::Controller, now| {
            let index = |name: Option<String>| match name {
                Some(name) => core.node_index(&name).map(Some).ok_or_else(|| unknown_relay(core, now, &name)),
                None => Ok(None),
            };
            let filter = RouteFilter {
                node: index(query.node)?,
                destination: index(query.destination)?,
                plane: query.plane.map(Plane),
                epoch: query.epoch.map(Epoch),
                policy: policy_of(core, query.policy)?,
            };
            Ok(core.routes(now, filter))
        };
        Ok(self.engine.ask(routes).await??.into_iter().map(RouteRow::from).collect())
    }

    /// The controller as a whole.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn status(&self) -> Result<StatusView, Refusal> {
        self.engine.ask(|core, _| core.status()).await
    }

    /// Makes a token for an SFU.
    ///
    /// # Errors
    /// If the request makes no sense.
    pub fn create_token(&self, request: &TokenRequest) -> Result<TokenAnswer, Refusal> {
        self.issuer.issue(request)
    }

    /// Makes a join token for a relay. It is durable when this returns.
    ///
    /// # Errors
    /// If the request makes no sense, or nobody told the controller where relays find it.
    pub async fn create_join_token(&self, request: JoinTokenRequest) -> Result<JoinTokenAnswer, Refusal> {
        let JoinTokenRequest { name, region, ttl_s, replace } = request;
        check_relay_name(&name).map_err(|error| {
            Refusal::invalid(format!("{name:?} cannot be a relay's name"), error.to_string())
        })?;
        if region.as_ref().is_some_and(|region| region.is_empty() || region.len() > limits::NAME_BYTES) {
            return Err(Refusal::invalid(
                "the region is empty or too long",
                "give it a short name, for instance eu-central, or leave it out",
            ));
        }
        let ttl_s = ttl_s.unwrap_or(JOIN_TTL_DEFAULT_S);
        if ttl_s == 0 || ttl_s > JOIN_TTL_MAX_S {
            let hint = format!("give it 1 to {JOIN_TTL_MAX_S} seconds");
            return Err(Refusal::invalid(format!("ttl_s is {ttl_s}"), hint));
        }
        if self.advertise.is_empty() {
            return Err(Refusal::new(
                RefusalKind::Conflict,
                "the controller does not know by which address relays reach it",
                "set `advertise` in its configuration, for instance advertise = [\"controller.example:4710\"]",
            ));
        }
        let mut secret = JoinSecret([0; 32]);
        aws_lc_rs::rand::fill(&mut secret.0)
            .map_err(|_| Refusal::broken("the system gives no random numbers", "check the host"))?;
        let secret_hash = ca::sha256(&secret.0);
        let created_unix_s = clock::unix_s();
        let expires_unix_s = created_unix_s + ttl_s;
        let record = JoinRecord {
            name: name.clone(),
            region: region.clone(),
            expires_unix_s,
            created_unix_s,
            replace,
        };
        self.engine.call(|answer| Request::AddJoinToken { secret_hash, record, answer }).await?;
        tracing::info!(name, "a join token was made");
        let controllers = self.advertise.to_vec();
        let token = JoinToken { controllers, ca_sha256: self.ca_sha256, name, region, secret };
        Ok(JoinTokenAnswer {
            id: hex(&JoinTokenId::of(&secret_hash).0),
            token: token.to_text(),
            name: token.name,
            controllers: token.controllers,
            ca_sha256: hex(&self.ca_sha256),
            expires_unix_s,
        })
    }

    /// Join tokens that wait to be used, by the name of their relay.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn join_tokens(&self) -> Result<Vec<JoinTokenRow>, Refusal> {
        let tokens = self.engine.call(|answer| Request::JoinTokens { answer }).await?;
        let row = |(id, record): (JoinTokenId, JoinRecord)| JoinTokenRow {
            id: hex(&id.0),
            name: record.name,
            region: record.region,
            replace: record.replace,
            created_unix_s: record.created_unix_s,
            expires_unix_s: record.expires_unix_s,
        };
        let mut rows: Vec<JoinTokenRow> = tokens.into_iter().map(row).collect();
        rows.sort_by(|a, b| (&a.name, a.created_unix_s, &a.id).cmp(&(&b.name, b.created_unix_s, &b.id)));
        Ok(rows)
    }

    /// Takes back a join token that nobody has used. It is durable when this returns.
    ///
    /// # Errors
    /// If `id` is none of a token that waits, or the controller stops.
    pub async fn revoke_join_token(&self, id: &str) -> Result<(), Refusal> {
        let Some(id) = unhex(id).map(JoinTokenId) else {
            return Err(Refusal::new(
                RefusalKind::NotFound,
                format!("{id:?} is no id of a join token"),
                "`relayctl join-token list` shows them: 16 hexadecimal digits",
            ));
        };
        self.engine.call(|answer| Request::RevokeJoinToken { id, answer }).await
    }

    /// Public keys that tokens are checked with: the controller's own, oldest first, then registered ones.
    ///
    /// # Errors
    /// If the controller stops.
    pub async fn token_keys(&self) -> Result<Vec<TokenKeyRow>, Refusal> {
        let registered = self.engine.call(|answer| Request::TokenKeys { answer }).await?;
        let own = self.issuer.public_keys(clock::unix_s());
        let own = own.into_iter().map(|(key, role)| TokenKeyRow::own(key, role));
        Ok(own.chain(registered.into_iter().map(TokenKeyRow::registered)).collect())
    }

    /// Makes the controller's next own key. Relays have it at once, and some seconds later tokens are signed with it;
    /// those of the keys before stay good until these are removed. It is durable when this returns.
    ///
    /// # Errors
    /// If the one before has not begun to sign yet, there are too many keys, or the controller stops.
    pub async fn rotate_signing_key(&self) -> Result<TokenKeyRow, Refusal> {
        let made = self.engine.call(|answer| Request::RotateSigningKey { answer }).await?;
        let mut rows = self.token_keys().await?;
        rows.retain(|row| row.id == made.id);
        rows.pop().ok_or_else(|| Refusal::broken("the new key is gone", "somebody removed it just now"))
    }

    /// Registers the public key of another token service. It is durable when this returns; relays have it at once.
    ///
    /// # Errors
    /// If it is no such key, or there are too many.
    pub async fn set_token_key(&self, row: TokenKeyRequest) -> Result<(), Refusal> {
        let key = TokenKey::try_from(row)?;
        if key.id.is_empty() || key.id.len() > KEY_ID_BYTES {
            return Err(Refusal::invalid(
                format!("the id has {} bytes", key.id.len()),
                format!("give it 1 to {KEY_ID_BYTES} bytes; it is the `kid` of the tokens"),
            ));
        }
        if key.namespace.as_ref().is_some_and(|name| name.is_empty() || name.len() > limits::NAME_BYTES) {
            return Err(Refusal::invalid(
                "the namespace is empty or too long",
                "name one, or leave it out: the key may then grant any",
            ));
        }
        self.engine.call(|answer| Request::SetTokenKey { key, answer }).await
    }

    /// Removes a key, registered or the controller's own: tokens that it signed are refused from now on, and links that
    /// stand on them end.
    ///
    /// # Errors
    /// If there is none of this id, or it is the last that the controller signs with.
    pub async fn remove_token_key(&self, id: String) -> Result<(), Refusal> {
        self.engine.call(|answer| Request::RemoveTokenKey { id, answer }).await
    }
}

impl Operations {
    /// Tokens of the admin API that hold, by name. That of `admin_token_file` is not among them.
    pub fn api_tokens(&self) -> Vec<ApiTokenRow> {
        self.api_tokens.list(clock::unix_s()).into_iter().map(ApiTokenRow::from).collect()
    }

    /// Makes a token for the admin API. It is durable when this returns.
    ///
    /// # Errors
    /// If the request makes no sense, the name is in use, there are too many, or the controller stops.
    pub async fn create_api_token(&self, request: ApiTokenRequest) -> Result<ApiTokenAnswer, Refusal> {
        let ApiTokenRequest { name, rights, ttl_s } = request;
        if !api_tokens::is_name(&name) {
            return Err(Refusal::invalid(
                format!("{name:?} cannot be a token's name"),
                format!(
                    "1 to {} letters, digits, hyphens, underscores and dots, a letter or digit first",
                    api_tokens::NAME_BYTES_MAX
                ),
            ));
        }
        if ttl_s.is_some_and(|ttl_s| ttl_s == 0 || ttl_s > API_TTL_MAX_S) {
            let hint = format!("give it 1 to {API_TTL_MAX_S} seconds, or none");
            return Err(Refusal::invalid(format!("ttl_s is {}", ttl_s.unwrap_or_default()), hint));
        }
        let (token, hash) = api_tokens::generate()
            .map_err(|_| Refusal::broken("the system gives no random numbers", "check the host"))?;
        let created_unix_s = clock::unix_s();
        let expires_unix_s = ttl_s.map(|ttl_s| created_unix_s + ttl_s);
        let record = ApiTokenRecord { name: name.clone(), rights, created_unix_s, expires_unix_s };
        self.engine.call(|answer| Request::AddApiToken { hash, record, answer }).await?;
        Ok(ApiTokenAnswer { token, name, rights, expires_unix_s })
    }

    /// Takes a token of the admin API back: the next call that shows it is refused. It is durable when this returns.
    ///
    /// # Errors
    /// If none has that name, or the controller stops.
    pub async fn revoke_api_token(&self, name: String) -> Result<(), Refusal> {
        self.engine.call(|answer| Request::RevokeApiToken { name, answer }).await
    }
}

pub(crate) fn unknown_relay(
    core: &route_core::Controller,
    now: wire_format::Timestamp,
    name: &str,
) -> Refusal {
    let mut known: Vec<String> = core.nodes(now).into_iter().map(|node| node.name).collect();
    let more = if known.len() > NAMES_IN_HINT { ", ..." } else { "" };
    known.truncate(NAMES_IN_HINT);
    let hint = if known.is_empty() {
        "no relay has joined yet".to_owned()
    } else {
        format!("known are {}{more}", known.join(", "))
    };
    Refusal::new(RefusalKind::NotFound, format!("no relay is called {name:?}"), hint)
}
