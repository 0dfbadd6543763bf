package rest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"murphey.dev/gateway/internal/backend"
)

// extraPaths describes what protoc-gen-openapiv2 cannot know: upload, download, health.
//
//go:embed extra_paths.json
var extraPaths []byte

// completeOpenAPI adds the title and the paths that are written by hand.
func completeOpenAPI(generated []byte) ([]byte, error) {
	var document, extra map[string]any
	if err := json.Unmarshal(generated, &document); err != nil {
		return nil, fmt.Errorf("the generated OpenAPI file: %w", err)
	}
	if err := json.Unmarshal(extraPaths, &extra); err != nil {
		return nil, fmt.Errorf("extra_paths.json: %w", err)
	}
	document["info"] = extra["info"]
	// The generator is internal and has no path; its service is still listed as a tag.
	document["tags"] = slices.DeleteFunc(document["tags"].([]any), func(tag any) bool {
		return tag.(map[string]any)["name"] == "GeneratorService"
	})
	paths := document["paths"].(map[string]any)
	for path, methods := range extra["paths"].(map[string]any) {
		if existing, ok := paths[path].(map[string]any); ok {
			maps.Copy(existing, methods.(map[string]any))
			continue
		}
		paths[path] = methods
	}
	return json.Marshal(document)
}

func serveDocument(document []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document)
	})
}

// serveHealth answers 200 when every service says SERVING, 503 otherwise, and what each said.
func serveHealth(backends backend.Backends) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		services, healthy := backends.Check(r.Context())
		answer := map[string]any{"status": "SERVING", "services": services}
		code := http.StatusOK
		if !healthy {
			answer["status"], code = "NOT_SERVING", http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(answer)
	})
}
