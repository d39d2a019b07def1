//! Sending.

use crate::client::Shared;
use crate::error::SendError;
use crate::router::Standing;
use relay_core::ClientCommand;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use wire_format::{RTP_BYTES_MAX, rtp};

/// A stream of this process. Outlives reconnects; ends when dropped.
pub struct Publication {
    pub(crate) number: u32,
    pub(crate) keyframe: Arc<Notify>,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) shared: Arc<Shared>,
}

impl Publication {
    /// Sends an RTP packet as it is. Never waits. While no link stands, packets are lost, as on any network.
    ///
    /// # Errors
    /// [`SendError`]; the packet is then dropped.
    pub fn send(&self, packet: &[u8]) -> Result<(), SendError> {
        self.push(packet, false)
    }

    /// Sends an RTCP packet (compound or not) of this stream, for instance its sender reports.
    ///
    /// # Errors
    /// [`SendError`]; the packet is then dropped.
    pub fn send_rtcp(&self, packet: &[u8]) -> Result<(), SendError> {
        self.push(packet, true)
    }

    /// Waits until a subscriber wants a keyframe; several wishes since the last call are one. `false` once the
    /// publication is over. Cancel-safe.
    pub async fn keyframe_request(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.keyframe.notified().await;
        !self.is_over()
    }

    fn is_over(&self) -> bool {
        match &*self.standing.borrow() {
            Standing::Asked | Standing::Granted => false,
            Standing::Refused(_, _) | Standing::Closed => true,
        }
    }

    fn push(&self, packet: &[u8], rtcp: bool) -> Result<(), SendError> {
        if packet.len() > RTP_BYTES_MAX {
            self.shared.count_too_large();
            return Err(SendError::TooLarge(packet.len()));
        }
        let well_formed = if rtcp { rtp::is_rtcp(packet) } else { rtp::RtpHeader::parse(packet).is_some() };
        if !well_formed {
            return Err(SendError::NotRtp);
        }
        match &*self.standing.borrow() {
            Standing::Asked | Standing::Granted => {}
            Standing::Refused(code, reason) => {
                return Err(SendError::Refused { code: *code, reason: reason.clone() });
            }
            Standing::Closed => return Err(SendError::Closed),
        }
        self.shared.port.send_rtp(self.number, packet, rtcp).map_err(|error| match error {
            link_io::SendError::Full => SendError::Full,
            link_io::SendError::TooLarge(bytes) => SendError::TooLarge(bytes),
            link_io::SendError::Closed => SendError::Closed,
        })
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        self.shared.end(self.number, ClientCommand::Unpublish { request: self.number });
    }
}
