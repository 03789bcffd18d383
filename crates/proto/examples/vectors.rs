//! Writes `tests/vectors/` and the appendix of docs/protocol.md from the samples. Run after an
//! intended change of the bytes, and look at the difference: a protocol version hangs on it.

#[path = "../tests/wire/samples.rs"]
#[allow(dead_code)]
mod samples;

use std::io;
use std::path::Path;

const BEGIN: &str =
    "<!-- vectors: written by `cargo run -p crucible-proto --example vectors` -->\n";
const END: &str = "<!-- end of vectors -->\n";

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let vectors = root.join("tests/vectors");
    std::fs::create_dir_all(&vectors)?;
    let mut appendix = String::new();
    for (name, sample) in samples::samples() {
        let file = samples::vector_file(&sample);
        appendix.push_str(&format!("\n`{name}`\n\n```\n{file}```\n"));
        std::fs::write(vectors.join(format!("{name}.hex")), file)?;
    }
    let derived = samples::derived();
    appendix.push_str(&format!("\n`derived.txt`\n\n```\n{derived}```\n\n"));
    std::fs::write(vectors.join("derived.txt"), derived)?;

    let spec = root.join("../../docs/protocol.md");
    let text = std::fs::read_to_string(&spec)?;
    let missing = || io::Error::other("docs/protocol.md has lost the marks around its vectors");
    let (head, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, tail) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(&spec, format!("{head}{BEGIN}{appendix}{END}{tail}"))
}
