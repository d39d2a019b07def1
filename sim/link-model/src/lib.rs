//! link-model.
