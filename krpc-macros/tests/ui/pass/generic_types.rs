//! Types with parameters, nested as one likes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Page<T> {
    rows: Vec<T>,
    next: Option<u64>,
}

#[krpc::service]
trait Index {
    async fn search(&self, terms: HashMap<String, Vec<u8>>, page: Page<String>) -> Page<(u8, u8)>;
}

struct Imp;

impl Index for Imp {
    async fn search(&self, terms: HashMap<String, Vec<u8>>, page: Page<String>) -> Page<(u8, u8)> {
        let count = terms[&page.rows[0]].len() as u8;
        Page { rows: vec![(count, 0)], next: page.next }
    }
}

#[tokio::main]
async fn main() {
    let terms = HashMap::from([("a".to_owned(), vec![1, 2, 3])]);
    let page = Page { rows: vec!["a".to_owned()], next: Some(7) };
    let found = IndexClient::local(Imp).search(terms, page).await.unwrap();
    assert_eq!((found.rows, found.next), (vec![(3, 0)], Some(7)));
}
