//! Every type that can be a key, and one of the user's own.

use std::{borrow::Cow, sync::Arc};

use krpc::Key;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct AccountId(u64);

impl Key for AccountId {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
    }
}

#[krpc::service]
trait Bank {
    #[rpc(key = k)]
    async fn string(&self, k: String);
    #[rpc(key = k)]
    async fn bytes(&self, k: Vec<u8>);
    #[rpc(key = k)]
    async fn array(&self, k: [u8; 16]);
    #[rpc(key = k)]
    async fn boxed(&self, k: Box<str>);
    #[rpc(key = k)]
    async fn character(&self, k: char);
    #[rpc(key = k)]
    async fn boolean(&self, k: bool);
    #[rpc(key = k)]
    async fn unsigned(&self, k: u128);
    #[rpc(key = k)]
    async fn signed(&self, k: i8);
    #[rpc(key = k)]
    async fn own(&self, k: AccountId);
    #[rpc(key = Arc::<str>::from(k.as_str()))]
    async fn shared(&self, k: String);
    #[rpc(key = Cow::Borrowed(k.as_str()))]
    async fn cow(&self, k: String);
}

fn main() {
    assert_eq!(krpc::rt::key_of(&AccountId(1)), [0, 0, 0, 0, 0, 0, 0, 1]);
    let _ = BankClient::string;
}
