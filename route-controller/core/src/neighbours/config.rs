//! How many links relays have.

use std::fmt;
use wire_format::control::limits;

/// How many links a relay has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NeighbourConfig {
    pub(super) mesh_max: usize,
    pub(super) links_max: usize,
}

/// Why there is no such configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NeighbourConfigError {
    /// More relays cannot all link to each other, or fewer than two.
    MeshMax(usize),
    /// With fewer links nothing is left to choose; more no relay takes.
    LinksMax(usize),
}

impl fmt::Display for NeighbourConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NeighbourConfigError::MeshMax(given) => {
                write!(f, "{given} relays all linked to each other: say 2 to {}", limits::NEIGHBOURS)
            }
            NeighbourConfigError::LinksMax(given) => write!(
                f,
                "{given} links a relay: say {} to {}",
                NeighbourConfig::LINKS_LEAST,
                limits::NEIGHBOURS
            ),
        }
    }
}

impl std::error::Error for NeighbourConfigError {}

impl NeighbourConfig {
    /// Fewer links than this a relay cannot be limited to.
    pub const LINKS_LEAST: usize = 8;

    /// Up to `mesh_max` relays all link to each other; of more, each has `links_max` links at most.
    ///
    /// # Errors
    /// If fewer than 2 or more than [`limits::NEIGHBOURS`] relays should all link to each other, or a relay should have
    /// fewer than [`NeighbourConfig::LINKS_LEAST`] or more than [`limits::NEIGHBOURS`] links.
    pub fn new(mesh_max: usize, links_max: usize) -> Result<NeighbourConfig, NeighbourConfigError> {
        if !(2..=limits::NEIGHBOURS).contains(&mesh_max) {
            return Err(NeighbourConfigError::MeshMax(mesh_max));
        }
        if !(NeighbourConfig::LINKS_LEAST..=limits::NEIGHBOURS).contains(&links_max) {
            return Err(NeighbourConfigError::LinksMax(links_max));
        }
        Ok(NeighbourConfig { mesh_max, links_max })
    }

    /// Up to so many relays all link to each other.
    pub fn mesh_max(&self) -> usize {
        self.mesh_max
    }

    /// Of more relays each has at most so many links.
    pub fn links_max(&self) -> usize {
        self.links_max
    }

    /// Links that a relay is meant to have; the rest is for those that come before others go, and for trials.
    pub(super) fn links_meant(&self) -> usize {
        self.links_max - self.links_max.div_ceil(8)
    }
}

impl Default for NeighbourConfig {
    fn default() -> NeighbourConfig {
        NeighbourConfig { mesh_max: 256, links_max: 32 }
    }
}
