//! What both examples are told: which relays, whom to believe, and by which right.

use sfu_link::{Config, SfuLink};
use std::error::Error;

/// Relays to fall back to in turn, the overlay's CA, and a token.
pub struct LinkArgs {
    relays: Vec<String>,
    ca: String,
    token: String,
}

impl LinkArgs {
    /// Nothing said yet; the token may be in the environment.
    pub fn new() -> LinkArgs {
        let token = std::env::var("CASCADE_CLIENT_TOKEN").unwrap_or_default();
        LinkArgs { relays: Vec::new(), ca: String::new(), token }
    }

    /// Takes an argument that is about the link. `false`: it is not.
    pub fn take(
        &mut self,
        word: &str,
        value: &mut dyn FnMut() -> Result<String, String>,
    ) -> Result<bool, String> {
        match word {
            "--relay" => self.relays.push(value()?),
            "--ca" => self.ca = value()?,
            "--token" => self.token = value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether all that is needed was said.
    pub fn is_complete(&self) -> bool {
        !self.relays.is_empty() && !self.ca.is_empty()
    }

    /// Links.
    pub async fn connect(&self) -> Result<SfuLink, Box<dyn Error>> {
        let config = Config::new(self.relays.clone(), self.token.clone(), self.ca.parse()?);
        Ok(SfuLink::connect(config).await?)
    }
}
