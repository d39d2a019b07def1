//! route-core.
