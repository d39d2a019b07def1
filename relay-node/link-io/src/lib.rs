//! link-io.
