//! Secrets: said by where they are, so that no declaration, message or log has one.

/// The text with each `${NAME}` replaced by the environment variable of that name, and each `${file:PATH}` by the first line of that file.
///
/// # Errors
/// When one of them is not there: its name, and never a value.
pub fn expand(text: &str) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        expanded.push_str(before);
        let (name, after) = after.split_once('}').ok_or("a ${ has no } behind it")?;
        expanded.push_str(&value(name)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

#[allow(clippy::disallowed_methods, reason = "where a secret is said to be; it reaches no record")]
fn value(name: &str) -> Result<String, String> {
    if let Some(path) = name.strip_prefix("file:") {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let line = text.lines().next().unwrap_or_default().trim();
        return match line.is_empty() {
            true => Err(format!("{path} is empty; write the secret into its first line")),
            false => Ok(line.to_owned()),
        };
    }
    match std::env::var(name) {
        Ok(value) if !value.trim().is_empty() => Ok(value.trim().to_owned()),
        _ => Err(format!("the environment variable {name} is not set; set it, or name a file that has the value: ${{file:PATH}}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_secret_is_read_from_a_file_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "abc \nsecond line\n").unwrap();
        let text = format!("Bearer ${{file:{}}}", path.display());
        assert_eq!(expand(&text).unwrap(), "Bearer abc");
        assert_eq!(expand("plain").unwrap(), "plain");
        assert!(expand("${REFOLD_NO_SUCH_SECRET}").unwrap_err().contains("REFOLD_NO_SUCH_SECRET is not set"));
        assert!(expand("${file:/none}").unwrap_err().contains("cannot read /none"));
        assert!(expand("${open").unwrap_err().contains("no }"));
    }
}
