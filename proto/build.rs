//! Compiles the service definitions with protox, so that no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 6] = [
        "seawall/v1/types.proto",
        "seawall/v1/ingest.proto",
        "seawall/v1/restore.proto",
        "seawall/v1/cluster.proto",
        "seawall/v1/agent.proto",
        "seawall/v1/peer.proto",
    ];
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["."])?;
    tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
