package localapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"countersign.dev/ipc/api"
)

type object = map[string]any

// describe makes the OpenAPI document from the route table and the wire types,
// so that it cannot say anything else than the server does.
func describe(version string) []byte {
	if version == "" {
		version = "dev"
	}
	schemas := object{}
	paths := map[string]object{}
	for _, r := range routes {
		operation := object{
			"operationId": operationID(r),
			"summary":     r.summary,
			"responses": object{
				strconv.Itoa(max(r.status, http.StatusOK)): success(r, schemas),
				"default": object{"description": "A refusal", "content": object{
					jsonType: object{"schema": schemaOf(reflect.TypeFor[api.ErrorBody](), schemas)}}},
			},
		}
		if parameters := parametersOf(r); parameters != nil {
			operation["parameters"] = parameters
		}
		if r.in != nil {
			operation["requestBody"] = object{"required": true, "content": object{
				jsonType: object{"schema": schemaOf(reflect.TypeOf(r.in), schemas)}}}
		}
		if paths[r.path] == nil {
			paths[r.path] = object{}
		}
		paths[r.path][strings.ToLower(r.method)] = operation
	}
	document, err := json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{
			"title":       "Countersign local API",
			"version":     version,
			"description": "HTTP/1.1 on the agent's unix socket or named pipe, for programs of the same user. Members may be added, never removed.",
		},
		"servers":    []object{{"url": "http://" + api.Host}},
		"paths":      paths,
		"components": object{"schemas": schemas},
	}, "", "  ")
	if err != nil {
		panic(err) // only maps, strings and slices
	}
	return document
}

// operationID is the handler's meaning in one word, e.g. get_accounts_id.
func operationID(r route) string {
	path := strings.NewReplacer("/v1/", "", "/", "_", "{", "", "}", "", ".json", "").Replace(r.path)
	return strings.ToLower(r.method) + "_" + path
}

func success(r route, schemas object) object {
	if r.out == nil {
		return object{"description": "Done"}
	}
	schema := schemaOf(reflect.TypeOf(r.out), schemas)
	switch r.stream {
	case ndjsonType:
		return object{"description": "One JSON object a line", "content": object{ndjsonType: object{"itemSchema": schema}}}
	case eventType:
		return object{"description": "Server-Sent Events; the data of each is one JSON object", "content": object{eventType: object{"itemSchema": schema}}}
	default:
		return object{"description": "Done", "content": object{jsonType: object{"schema": schema}}}
	}
}

func parametersOf(r route) []object {
	var list []object
	if strings.Contains(r.path, "{id}") {
		list = append(list, object{"name": "id", "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, p := range r.query {
		list = append(list, object{"name": p.name, "in": "query", "description": p.summary, "schema": object{"type": p.kind}})
	}
	return list
}

// schemaOf describes a Go type as encoding/json writes it; structs become named
// components.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t == reflect.TypeFor[api.PIN]():
		return object{"type": "string", "format": "password", "writeOnly": true}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case t.Kind() == reflect.Struct:
		if _, known := schemas[t.Name()]; !known {
			schemas[t.Name()] = nil // a type may mention itself
			schemas[t.Name()] = structSchema(t, schemas)
		}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	}
	switch t.Kind() {
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return object{"type": "integer"}
	case reflect.Uint, reflect.Uint64:
		return object{"type": "integer", "minimum": 0}
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object"}
	default:
		panic(fmt.Sprintf("no schema for %s", t))
	}
}

func structSchema(t reflect.Type, schemas object) object {
	properties, required := object{}, []string{}
	for i := range t.NumField() {
		name, optional, ok := jsonName(t.Field(i))
		if !ok {
			continue
		}
		properties[name] = schemaOf(t.Field(i).Type, schemas)
		if !optional {
			required = append(required, name)
		}
	}
	return object{"type": "object", "properties": properties, "required": required}
}
