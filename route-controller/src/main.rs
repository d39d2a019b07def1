//! route-controller.
fn main() {}
