//! Fields of expressions that are not columns: `(f(x)).part`, `list[1].part`.
//!
//! The parser takes the name after such a dot for a column, and DataFusion refuses it. A call of a function with the field's name as a text has the
//! intended meaning.

use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, Select, SelectItem, VisitMut, VisitorMut};

use super::tree::{call, text};

/// Turns each such field into the call of a function. A result column that consists of one is named like the field. `name` returns the name that an
/// identifier stands for.
pub(in crate::query) fn name_fields(within: &mut impl VisitMut, name: fn(&Ident) -> String) {
    let _ = within.visit(&mut Fields { name });
}

struct Fields {
    name: fn(&Ident) -> String,
}

impl VisitorMut for Fields {
    type Break = Infallible;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Infallible> {
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { access_chain, .. }) = item else {
                continue;
            };
            let Some(AccessExpr::Dot(Expr::Identifier(field))) = access_chain.last() else { continue };
            let alias = Ident::with_quote('"', (self.name)(field));
            let taken = std::mem::replace(item, SelectItem::UnnamedExpr(text("")));
            if let SelectItem::UnnamedExpr(expr) = taken {
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else { return ControlFlow::Continue(()) };
        if !access_chain.iter().any(|access| matches!(access, AccessExpr::Dot(Expr::Identifier(_)))) {
            return ControlFlow::Continue(());
        }
        let root = std::mem::replace(&mut **root, text(""));
        *expr = std::mem::take(access_chain).into_iter().fold(root, |of, access| match access {
            AccessExpr::Dot(Expr::Identifier(field)) => {
                call("get_field", vec![of, text(&(self.name)(&field))])
            }
            other => Expr::CompoundFieldAccess { root: Box::new(of), access_chain: vec![other] },
        });
        ControlFlow::Continue(())
    }
}
