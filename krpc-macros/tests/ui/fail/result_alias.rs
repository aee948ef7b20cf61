use std::{fmt, io};

#[krpc::service]
trait Files {
    async fn read(&self) -> io::Result<Vec<u8>>;
    async fn show(&self) -> fmt::Result;
}

async fn use_it(client: FilesClient) {
    let _: Vec<u8> = client.read().await.unwrap();
}

fn main() {}
