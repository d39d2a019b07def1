//! What an SFU embeds to link to a Cascade overlay: publish RTP streams into it, subscribe to those of others.
//!
//! ```no_run
//! use sfu_link::{Codec, Config, MediaKind, PublishOptions, SfuLink, SubscribeOptions};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let fingerprint = std::env::var("CASCADE_CA_FINGERPRINT")?.parse()?;
//! let token = std::env::var("CASCADE_CLIENT_TOKEN")?;
//! let link = SfuLink::connect(Config::new(["relay1.example.net:4700"], token, fingerprint)).await?;
//!
//! let video = PublishOptions::new("standup", "alice", "camera", MediaKind::Video).codec(Codec::Vp8);
//! let video = link.publish(video).await?;
//! let rtp = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7];
//! video.send(&rtp)?;
//!
//! let mut others = link.subscribe(SubscribeOptions::room("standup").user("bob")).await?;
//! while let Some(packet) = others.recv().await {
//!     println!("{} sends {} bytes", packet.stream.user, packet.bytes.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How it behaves
//!
//! - RTP and RTCP pass untouched: SSRC, sequence number, timestamp and extensions arrive as they were sent. Each packet
//!   also carries the publisher's own count, so that [`Packet::sequence`] shows losses.
//! - Where a link cannot carry everything, audio goes first, then keyframes and base layers, then other video, then
//!   enhancement layers. Which packet is what is read from the RTP itself, here, once, if [`PublishOptions`] say how: by
//!   the codec of a legible payload, or by the header extensions of an encrypted one.
//! - [`Publication::send`] never waits. It copies the packet to the port's worker thread, which seals and sends what it
//!   finds in one train. Deliveries come from that thread through a bounded queue per subscription.
//! - The link is kept up by itself: when it is lost, the next configured relay is dialled, with growing pauses.
//!   Publications and subscriptions outlive that: they are asked for again. To a subscription, streams of the old link
//!   end and start anew.
//! - When a relay is drained or about to stop, the client moves to the next one without losing a packet: both links stand
//!   until everything has gone over, and streams neither end nor start anew. A client that is given only one relay stays
//!   until that is gone.
//! - A link ends when its token expires, or when the key that signed it is removed. [`SfuLink::set_token`] links again
//!   with a newer one beforehand, and moves in the same way; [`Config::token_source`] is
//!   asked for one before every attempt. [`SfuLink::last_loss`] tells why a link was lost or refused.
//! - What the overlay refuses, it refuses with a code and a reason that says what to do. A refusal after a reconnect (a
//!   token that has expired meanwhile) ends the publication or subscription.
//! - Relays are believed if they prove a certificate of the CA whose fingerprint is configured, and nobody else.

mod client;
mod config;
mod error;
mod inbox;
mod publication;
mod router;
mod stats;
mod subscription;

pub use client::SfuLink;
pub use config::{Config, Fingerprint, FingerprintError, PublishOptions, SubscribeOptions, TokenSource};
pub use error::{ConnectError, RelayError, RequestError, SendError};
pub use link_io::{LinkError, PortError, PortStats};
pub use publication::Publication;
pub use stats::Stats;
pub use subscription::{Event, Packet, StreamInfo, Subscription};
pub use wire_format::session::RefusalCode;
pub use wire_format::{
    BUDGET_MAX, BUDGET_MIN, BudgetError, Codec, DescriptionError, Incarnation, MediaKind, Priority,
    RTP_BYTES_MAX, RtpDescription,
};
