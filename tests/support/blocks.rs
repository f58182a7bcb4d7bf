//! Statements in a text file that a DBA can read: one a block, blocks apart by empty lines, comments before or in them. A block of
//! comments alone is a heading.

use super::oracle::{Asked, Order};

pub struct Block {
    /// the comment lines above it, without their dashes
    pub comment: String,
    pub statement: String,
}

pub fn blocks(text: &str) -> Vec<Block> {
    let block = |lines: &str| {
        let is_comment = |line: &&str| line.starts_with("--");
        let comment: Vec<&str> = lines.lines().filter(is_comment).collect();
        let rest: Vec<&str> = lines.lines().filter(|line| !is_comment(line)).collect();
        let statement = rest.join("\n").trim().trim_end_matches(';').to_owned();
        let comment = comment.join(" ").replace("--", "").trim().to_owned();
        (!statement.is_empty()).then_some(Block { comment, statement })
    };
    text.split("\n\n").filter_map(block).collect()
}

impl Block {
    /// An ORDER BY of the whole statement settles the order, unless the comment says "ties".
    pub fn asked(&self) -> Asked {
        let order = if ordered(&self.statement) && !self.comment.contains("ties") {
            Order::Total
        } else {
            Order::None
        };
        Asked::plain(&self.statement, order)
    }
}

/// ORDER BY outside of all parentheses.
fn ordered(statement: &str) -> bool {
    let mut depth = 0;
    let outer: String = statement
        .chars()
        .filter(|c| {
            depth += i32::from(*c == '(') - i32::from(*c == ')');
            depth == 0
        })
        .collect();
    outer.to_uppercase().contains("ORDER BY")
}
