//! route-controller.
