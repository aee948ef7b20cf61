//! Writes the gRPC service's client and server, as a `.proto` file and protoc would give them.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let echo = Method::builder()
        .name("echo")
        .route_name("Echo")
        .input_type("crate::systems::tonic::Value")
        .output_type("crate::systems::tonic::Value")
        .codec_path("tonic_prost::ProstCodec")
        .build();
    let service = Service::builder().name("Echo").package("bench").method(echo).build();
    Builder::new().compile(&[service]);
}
