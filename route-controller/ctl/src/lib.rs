//! relayctl.
