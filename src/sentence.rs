//! One sentence out of what others say: on one line, short enough to be read, with its cause.

/// What is said of an answer at most.
const CHARS_MAX: usize = 300;

/// What somebody answered, on one line; a long text ends with a whole word and `…`.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::new();
    let mut chars = 0;
    for word in text.split_whitespace() {
        chars += word.chars().count() + 1;
        if chars > CHARS_MAX {
            // A first word of that length has to be cut.
            if line.is_empty() {
                line.extend(word.chars().take(CHARS_MAX));
            }
            line.push('…');
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// The system's own word stands at the end of the chain.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_ends_with_a_whole_word() {
        assert_eq!(line(" one\n  line "), "one line");
        let long = line(&"words ".repeat(1_000));
        assert!(long.ends_with("words…") && long.chars().count() <= CHARS_MAX + 1, "{long}");
        assert_eq!(line(&"x".repeat(1_000)).chars().count(), CHARS_MAX + 1);
    }
}
