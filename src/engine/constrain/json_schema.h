// JSON schemas as constraints: what is written is valid against the schema.
//
// Keywords: type (also a list), properties, required, additionalProperties; items, prefixItems, minItems, maxItems;
// pattern, format, minLength, maxLength; minimum, maximum, exclusiveMinimum, exclusiveMaximum; enum, const; anyOf;
// allOf, merged; $ref within the schema, recursion included. $schema, title, description, default, examples, $comment,
// $defs and definitions say nothing about validity and are passed over. Any other keyword is refused with
// kInvalidArgument, by name, with its place as a JSON pointer.
//
// Of all valid values these are written: properties in the schema's order, further ones behind them; none further where
// properties are listed and additionalProperties is not; numbers with bounds without an exponent, integers of at most
// 18 digits; white space as models put it. Patterns and formats cannot be combined with lengths, values of enum and
// const only with type.
#pragma once

#include <string_view>

#include "engine/constrain/json_grammar.h"

namespace vl2 {

// Writes the schema's values into the builder's first rule. kInvalidArgument.
void add_json_schema(GrammarBuilder& builder, std::string_view schema);

}  // namespace vl2
