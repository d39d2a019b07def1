//! Several hosts: the real binaries, each on a host of its own with cables between them, and what happens to cables,
//! addresses and sizes out there. Hosts are network namespaces of Linux, so these tests need root, `ip` and `nft`; users
//! without them see that they are skipped.

mod addresses;
mod cables;
mod call;
mod families;
mod network;
mod overlay;
mod rates;
mod sizes;
