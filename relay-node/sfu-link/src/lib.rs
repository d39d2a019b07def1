//! sfu-link.
