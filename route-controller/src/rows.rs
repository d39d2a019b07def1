//! Rows of the admin API, as JSON writes them. `relayctl` reads the same types.

use crate::api_tokens::{ApiRights, ApiTokenRecord};
use crate::refusal::Refusal;
use crate::route_rows::{TermsRow, doubt_name};
use crate::tokens::KeyRole;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use route_core::{LinkView, NodeState, NodeView, RouteView};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wire_format::control::{LinkQuality, LinkState, RepairPlan, RepairTotals, TokenKey};

/// A relay, in `GET /v1/nodes`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its index.
    pub node: u16,
    /// `connected`, `silent` (no session, but neighbours still reach it), `leaving`, `offline` or
    /// `revoked`.
    pub state: String,
    /// Time in that state.
    pub state_age_s: f64,
    /// Region, for instance `eu-central`.
    pub region: String,
    /// Internet provider or cloud, empty if not told.
    pub isp: String,
    /// Free labels.
    pub tags: Vec<String>,
    /// Where its relay port is reached.
    pub addresses: Vec<String>,
    /// Software version, empty if not connected since the controller started.
    pub version: String,
    /// Newest epoch whose tables it acknowledged.
    pub epoch: Option<u32>,
    /// Without it, relays that reach each other now would not: no plane goes around it.
    #[serde(default)]
    pub cut_vertex: bool,
    /// An operator wants routes to avoid it.
    #[serde(default)]
    pub cordoned: bool,
    /// An operator wants it empty: its SFUs are sent to other relays.
    #[serde(default)]
    pub draining: bool,
    /// It became a hub all of a sudden, by its own links' prices: routes avoid it until they have held for a while.
    #[serde(default)]
    pub hub_quarantined: bool,
    /// Neighbours with a usable link.
    pub links_usable: usize,
    /// Publications held there.
    pub publications: usize,
    /// Subscriptions held there.
    pub subscriptions: usize,
    /// When its newest certificate ends, seconds since 1970; absent if it has none that is good.
    #[serde(default)]
    pub certificate_expires_unix_s: Option<u64>,
    /// Where it says it stands, degrees north and east; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// See `latitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    /// It left or was revoked: seconds until its index is free for another relay; absent while it has it for itself.
    #[serde(default)]
    pub index_free_in_s: Option<f64>,
}

/// One direction of a link, in `GET /v1/links`.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
pub struct LinkRow {
    /// The relay that sends, and measures.
    pub from: String,
    /// The relay that receives.
    pub to: String,
    /// `up`, `suspect` or `down`, as `from` says; absent if it has not said.
    pub state: Option<String>,
    /// Routes may use it.
    pub usable: bool,
    /// Without it, relays that reach each other now would not: no plane goes around it.
    #[serde(default)]
    pub bridge: bool,
    /// Cost that routes are computed with; absent while not usable.
    pub cost_us: Option<u64>,
    /// Cost of the latest measurement, before smoothing and hysteresis.
    pub cost_raw_us: Option<u64>,
    /// What the cost is made of; absent while not usable.
    #[serde(default)]
    pub terms: Option<TermsRow>,
    /// Why the measurement of `from` is not believed as it is: `few_samples`, `ends_differ` or `faster_than_light`.
    #[serde(default)]
    pub doubt: Option<String>,
    /// Round trip of the last second or so, without the moments in which a host was busy.
    pub rtt_us: Option<u64>,
    /// Least round trip of late.
    pub rtt_min_us: Option<u64>,
    /// Interarrival jitter at `to`.
    pub jitter_us: Option<u64>,
    /// Fraction lost from `from` to `to`.
    pub loss: Option<f64>,
    /// Sent from `from` to `to`.
    pub rate_bytes_per_s: Option<u64>,
    /// Age of the measurement.
    pub age_s: Option<f64>,
    /// Smoothed round trip (RFC 6298), moments in which a host was busy included.
    #[serde(default)]
    pub rtt_smoothed_us: Option<u64>,
    /// Its mean deviation (RFC 6298).
    #[serde(default)]
    pub rtt_variation_us: Option<u64>,
    /// What datagrams wait in queues on the way from `from` to `to`, beyond the least of the last 10 to 20 s.
    #[serde(default)]
    pub queueing_us: Option<u64>,
    /// What the way from `from` to `to` was found to carry; absent while nothing shows a limit.
    #[serde(default)]
    pub deliverable_bytes_per_s: Option<u64>,
    /// How often 1, 2, 3-4, 5-8, 9-16, 17-32 and more datagrams in a row were missing at `to`, since the link came up.
    #[serde(default)]
    pub loss_bursts: Option<Vec<u64>>,
    /// Fraction of the datagrams with media that did not come at `to`, repair taken into account, over about 10 s.
    #[serde(default)]
    pub residual_loss: Option<f64>,
    /// Datagrams that `from` sent again, since the link came up.
    #[serde(default)]
    pub retransmitted: Option<u64>,
    /// Datagrams of parity that `from` sent.
    #[serde(default)]
    pub parity: Option<u64>,
    /// Datagrams that repair restored at `to`.
    #[serde(default)]
    pub recovered: Option<u64>,
    /// Bytes of repair, feedback and probes that `from` sent, over the bytes of datagrams that it sent for the first time;
    /// absent before the first.
    #[serde(default)]
    pub overhead: Option<f64>,
    /// What is done against loss of audio, and why.
    #[serde(default)]
    pub repair_audio: Option<String>,
    /// The same for all other media.
    #[serde(default)]
    pub repair_other: Option<String>,
}

/// A route, in `GET /v1/routes`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RouteRow {
    /// The relay whose table it is.
    pub node: String,
    /// Where to.
    pub destination: String,
    /// 0 primary, 1 red, 2 blue.
    pub plane: u8,
    /// The neighbour that comes next.
    pub next_hop: String,
    /// All relays of the path, `node` first, `destination` last.
    pub path: Vec<String>,
    /// Cost of the path at the present costs of its links; if one has failed since, when the epoch was computed.
    pub cost_us: u64,
    /// Of a primary route: the plane that frames are moved to when the next hop fails; absent if there is none.
    #[serde(default)]
    pub backup_plane: Option<u8>,
    /// The epoch of the table.
    pub epoch: u32,
    /// Time since this path was first computed.
    pub age_s: f64,
}

/// What `POST /v1/tokens` takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Tenant that the token is for.
    pub namespace: String,
    /// Rooms that it is for, `*` matching any run of characters.
    pub room: String,
    /// May publish.
    #[serde(default)]
    pub publish: bool,
    /// May subscribe.
    #[serde(default)]
    pub subscribe: bool,
    /// Whom it is for, for people.
    #[serde(default)]
    pub subject: Option<String>,
    /// How long it is valid; an hour if not told.
    #[serde(default, deserialize_with = "whole_number")]
    pub ttl_s: Option<u64>,
}

/// What `POST /v1/tokens` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The JWT.
    pub token: String,
    /// When it ends, seconds since 1970.
    pub expires_unix_s: u64,
    /// SHA-256 of the overlay's CA certificate, hexadecimal: whoever gets the token also needs this to know its relay.
    pub ca_sha256: String,
}

/// What `POST /v1/join-tokens` takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// The relay's name.
    pub name: String,
    /// The relay's region.
    #[serde(default)]
    pub region: Option<String>,
    /// How long it can be used; a day if not told.
    #[serde(default, deserialize_with = "whole_number")]
    pub ttl_s: Option<u64>,
    /// It may take the place of a relay that is in session, whose certificate is then void.
    #[serde(default)]
    pub replace: bool,
}

/// What `POST /v1/join-tokens` answers. Tells what the token holds, so that an operator sees a wrong address at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinTokenAnswer {
    /// Names the token in lists and when it is revoked; no secret.
    #[serde(default)]
    pub id: String,
    /// The token, to be given to one relay.
    pub token: String,
    /// The relay's name.
    pub name: String,
    /// Where the relay will look for the controller.
    pub controllers: Vec<String>,
    /// SHA-256 of the CA's certificate, hexadecimal.
    pub ca_sha256: String,
    /// When it ends, seconds since 1970.
    pub expires_unix_s: u64,
}

/// A join token that waits to be used, in `GET /v1/join-tokens`. The token itself is told once, when it is made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinTokenRow {
    /// Names the token, 16 hexadecimal digits.
    pub id: String,
    /// The relay that it is for.
    pub name: String,
    /// That relay's region, if one was given.
    #[serde(default)]
    pub region: Option<String>,
    /// It may take the place of a relay that is in session.
    pub replace: bool,
    /// When it was made, seconds since 1970.
    pub created_unix_s: u64,
    /// When it ends, seconds since 1970.
    pub expires_unix_s: u64,
}

/// What `GET /v1/routes` may ask for. What is absent is not restricted; without an epoch, the newest in use is shown.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoutesQuery {
    /// Only the table of this relay.
    pub node: Option<String>,
    /// Only routes to this relay.
    pub destination: Option<String>,
    /// Only this plane.
    pub plane: Option<u8>,
    /// Only this epoch, one of the last hundred.
    pub epoch: Option<u32>,
    /// By this policy; without it, by `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The moment, seconds since 1970; the present if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
}

/// What `GET /v1/links` may ask for.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinksQuery {
    /// The moment, seconds since 1970; the present if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
}

/// The public key of another token service, for `POST /v1/token-keys`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyRequest {
    /// `kid` of the tokens it signs.
    pub id: String,
    /// Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// The only namespace it may grant; absent for all.
    #[serde(default)]
    pub namespace: Option<String>,
}

/// A public key that tokens are checked with, in `GET /v1/token-keys`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenKeyRow {
    /// `kid` of the tokens it signs.
    pub id: String,
    /// Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// The only namespace it may grant; absent for all.
    #[serde(default)]
    pub namespace: Option<String>,
    /// `signing` (the controller signs with it), `next` (it will), `former` (it did), or `registered` (of another token
    /// service). Tokens of all of them are accepted.
    pub role: String,
    /// Of the next one: from when on the controller signs with it, seconds since 1970.
    #[serde(default)]
    pub signs_from_unix_s: Option<u64>,
}

impl TokenKeyRow {
    pub(crate) fn own(key: TokenKey, role: KeyRole) -> TokenKeyRow {
        let (role, signs_from_unix_s) = match role {
            KeyRole::Signing => ("signing", None),
            KeyRole::Next { signs_from_unix_s } => ("next", Some(signs_from_unix_s)),
            KeyRole::Former => ("former", None),
        };
        TokenKeyRow { role: role.to_owned(), signs_from_unix_s, ..TokenKeyRow::registered(key) }
    }

    pub(crate) fn registered(key: TokenKey) -> TokenKeyRow {
        TokenKeyRow {
            id: key.id,
            public_key: URL_SAFE_NO_PAD.encode(key.public_key),
            namespace: key.namespace,
            role: "registered".to_owned(),
            signs_from_unix_s: None,
        }
    }
}

impl TryFrom<TokenKeyRequest> for TokenKey {
    type Error = Refusal;

    fn try_from(row: TokenKeyRequest) -> Result<TokenKey, Refusal> {
        let bytes = URL_SAFE_NO_PAD.decode(&row.public_key).ok();
        let Some(public_key) = bytes.and_then(|bytes| bytes.try_into().ok()) else {
            return Err(Refusal::invalid(
                format!("{:?} is no Ed25519 public key", row.public_key),
                "give its 32 bytes in base64url without padding: the `x` of a JWK",
            ));
        };
        Ok(TokenKey { id: row.id, public_key, namespace: row.namespace })
    }
}

/// What `POST /v1/api-tokens` takes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiTokenRequest {
    /// Whose it is, for lists and the log: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it may do.
    pub rights: ApiRights,
    /// How long it is valid; until it is revoked if not told.
    #[serde(default, deserialize_with = "whole_number")]
    pub ttl_s: Option<u64>,
}

/// What `POST /v1/api-tokens` answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiTokenAnswer {
    /// The token. It is told once; the controller keeps its hash.
    pub token: String,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub rights: ApiRights,
    /// When it ends, seconds since 1970; absent if only when it is revoked.
    pub expires_unix_s: Option<u64>,
}

/// A token of the admin API, in `GET /v1/api-tokens`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiTokenRow {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub rights: ApiRights,
    /// When it was made, seconds since 1970.
    pub created_unix_s: u64,
    /// When it ends, seconds since 1970; absent if only when it is revoked.
    #[serde(default)]
    pub expires_unix_s: Option<u64>,
}

impl From<ApiTokenRecord> for ApiTokenRow {
    fn from(record: ApiTokenRecord) -> ApiTokenRow {
        let ApiTokenRecord { name, rights, created_unix_s, expires_unix_s } = record;
        ApiTokenRow { name, rights, created_unix_s, expires_unix_s }
    }
}

/// What every refusal of an HTTP API answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub hint: String,
}

/// A number without a fraction: JSON has one kind of numbers, and some programs write 3600 as 3600.0.
fn whole_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    whole(&number).map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("{number} where a whole number from 0 on is expected"))
    })
}

/// A number from 0 on that has no fraction, however it is written.
pub(crate) fn whole(number: &serde_json::Number) -> Option<u64> {
    /// From here on not every whole number is a floating point number.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let is_whole = |number: &f64| (0.0..EXACT_MAX).contains(number) && number.fract() == 0.0;
    number.as_u64().or_else(|| number.as_f64().filter(is_whole).map(|float| float as u64))
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Seconds to the millisecond: more digits than anyone reads would only blur a table.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

impl From<NodeView> for NodeRow {
    fn from(view: NodeView) -> NodeRow {
        let state = match view.state {
            NodeState::Connected => "connected",
            NodeState::Silent => "silent",
            NodeState::Leaving => "leaving",
            NodeState::Offline => "offline",
            NodeState::Revoked => "revoked",
        };
        NodeRow {
            name: view.name,
            node: view.node.0,
            state: state.to_owned(),
            state_age_s: seconds(view.state_age),
            region: view.region,
            isp: view.isp,
            tags: view.tags,
            addresses: view.addresses.iter().map(ToString::to_string).collect(),
            version: view.version,
            epoch: view.epoch.map(|epoch| epoch.0),
            cut_vertex: view.cut_vertex,
            cordoned: view.cordoned,
            draining: view.draining,
            hub_quarantined: view.hub_quarantined,
            links_usable: view.links_usable,
            publications: view.publications,
            subscriptions: view.subscriptions,
            certificate_expires_unix_s: None,
            latitude: view.position.map(|place| f64::from(place.lat_micro_degrees()) / 1e6),
            longitude: view.position.map(|place| f64::from(place.lon_micro_degrees()) / 1e6),
            index_free_in_s: view.index_free_in.map(seconds),
        }
    }
}

impl From<LinkView> for LinkRow {
    fn from(view: LinkView) -> LinkRow {
        let (sender, receiver) = (view.sender.as_ref(), view.receiver.as_ref());
        let overhead = |quality: &LinkQuality| {
            let RepairTotals { first_bytes, overhead_bytes, .. } = quality.repair;
            (first_bytes > 0).then(|| overhead_bytes as f64 / first_bytes as f64)
        };
        let state = view.state.map(|state| match state {
            LinkState::Up => "up",
            LinkState::Suspect => "suspect",
            LinkState::Down => "down",
        });
        LinkRow {
            from: view.from,
            to: view.to,
            state: state.map(str::to_owned),
            usable: view.usable,
            bridge: view.bridge,
            cost_us: view.cost_us,
            cost_raw_us: view.cost_raw_us,
            terms: view.terms.map(TermsRow::from),
            doubt: view.doubt.map(|doubt| doubt_name(doubt).to_owned()),
            rtt_us: view.rtt.map(micros),
            rtt_min_us: view.rtt_min.map(micros),
            jitter_us: view.jitter.map(micros),
            loss: view.loss_ppm.map(|ppm| f64::from(ppm) / 1e6),
            rate_bytes_per_s: view.rate,
            age_s: view.age.map(seconds),
            rtt_smoothed_us: sender.and_then(|quality| quality.rtt_smoothed).map(micros),
            rtt_variation_us: sender.and_then(|quality| quality.rtt_variation).map(micros),
            queueing_us: receiver
                .map(|quality| quality.queueing_in)
                .or(sender.map(|quality| quality.queueing_out))
                .map(micros),
            deliverable_bytes_per_s: sender.and_then(|quality| quality.deliverable_out),
            loss_bursts: receiver.map(|quality| quality.bursts_in.to_vec()),
            residual_loss: receiver.map(|quality| f64::from(quality.residual_in_ppm) / 1e6),
            retransmitted: sender.map(|quality| quality.repair.retransmitted),
            parity: sender.map(|quality| quality.repair.parity),
            recovered: receiver.map(|quality| quality.repair.recovered),
            overhead: sender.and_then(overhead),
            repair_audio: sender.map(|quality| told_plan(quality.repair_audio)),
            repair_other: sender.map(|quality| told_plan(quality.repair_other)),
        }
    }
}

fn told_plan(plan: RepairPlan) -> String {
    format!("{}: {}", plan.method(), plan.reason())
}

impl From<RouteView> for RouteRow {
    fn from(view: RouteView) -> RouteRow {
        RouteRow {
            node: view.node,
            destination: view.destination,
            plane: view.plane.0,
            next_hop: view.next_hop,
            path: view.path,
            cost_us: view.cost_us,
            backup_plane: view.backup.map(|plane| plane.0),
            epoch: view.epoch.0,
            age_s: seconds(view.age),
        }
    }
}
