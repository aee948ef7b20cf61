//! A one-way method may return `Result<(), E>`: its error asks for a retry.

#[krpc::service]
trait Log {
    #[rpc(one_way)]
    async fn write(&self, line: String) -> Result<(), String>;
    #[rpc(one_way, retry(max = 3))]
    async fn flush(&self) -> std::result::Result<(), u8>;
}

struct Imp;

impl Log for Imp {
    async fn write(&self, line: String) -> Result<(), String> {
        if line.is_empty() { Err("empty".to_owned()) } else { Ok(()) }
    }
    async fn flush(&self) -> std::result::Result<(), u8> {
        Ok(())
    }
}

#[tokio::main]
async fn main() {
    let log = LogClient::local(Imp);
    let written: Result<(), krpc::Error<String>> = log.write("a line".to_owned()).await;
    written.unwrap();
    log.flush().await.unwrap();
}
