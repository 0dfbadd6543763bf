package server_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	retrieverv1 "murphey.dev/gateway/gen/murphey/retriever/v1"
	"murphey.dev/gateway/internal/settings"
)

func TestJSONReachesTheServiceAndItsAnswerComesBack(t *testing.T) {
	mesh, gateway := start(t)
	mesh.retriever.search = func(_ context.Context, query *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
		chunk := &retrieverv1.Chunk{Id: query.GetCollection(), Text: query.GetText(), Span: &retrieverv1.Span{End: 3}}
		return &retrieverv1.SearchResponse{Passages: []*retrieverv1.Passage{{Chunk: chunk, Score: 0.5}}}, nil
	}
	want := `{"passages":[{"chunk":{"id":"collections/a","document":"","version":"","index":0,"text":"wh€n?",
		"span":{"start":"0","end":"3"},"page":0,"headings":[],"displayName":"","sameAs":""},"score":0.5,"before":[],"after":[]}],
		"indexVersion":"","corpusVersion":"","reranker":"","cached":false}`
	response := send(t, "POST", gateway.url+"/v1/collections/a:search", strings.NewReader(`{"text":"wh€n?"}`))
	expectJSON(t, response, http.StatusOK, want)
	if response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %v", response.Header)
	}
	// The second binding, and the field's name as the proto has it.
	response = send(t, "POST", gateway.url+"/v1/search", strings.NewReader(`{"collection":"collections/a","text":"wh€n?"}`))
	expectJSON(t, response, http.StatusOK, want)
}

func TestErrorsKeepCodeDetailsAndRetryAfter(t *testing.T) {
	mesh, gateway := start(t)
	var failure error
	mesh.orchestrator.answer = func(context.Context, *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		return nil, failure
	}
	for code, httpStatus := range map[codes.Code]int{
		codes.InvalidArgument: 400, codes.FailedPrecondition: 400, codes.Unauthenticated: 401, codes.PermissionDenied: 403,
		codes.NotFound: 404, codes.AlreadyExists: 409, codes.ResourceExhausted: 429, codes.Internal: 500,
		codes.Unimplemented: 501, codes.DeadlineExceeded: 504,
	} {
		failure = status.Error(code, "what was wrong")
		response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader(`{}`))
		expectError(t, response, httpStatus, code, "what was wrong")
		if challenge := response.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (code == codes.Unauthenticated) {
			t.Errorf("%v: WWW-Authenticate %q", code, challenge)
		}
	}
	failure = overloaded(t)
	response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader(`{}`))
	expectJSON(t, response, http.StatusTooManyRequests, `{"code":8,"message":"32 requests run already.","details":[
		{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"OVERLOADED","domain":"murphey","metadata":{"service":"orchestrator"}},
		{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.500s"}]}`)
	if response.Header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After is %q", response.Header.Get("Retry-After"))
	}
}

func TestBadRequestsAreRefusedInClearJSON(t *testing.T) {
	_, gateway := start(t, func(s *settings.Settings) { s.MaxJSONBytes = 1000 })
	long := `{"question":{"text":"` + strings.Repeat("a", 2000) + `"}}`
	for _, test := range []struct {
		method, path, body string
		status             int
		code               codes.Code
		says               string
	}{
		{"POST", "/v1/answers", `{"qestion":{}}`, 400, codes.InvalidArgument, `The request cannot be read: (line 1:2): unknown field "qestion"`},
		{"POST", "/v1/answers", `{"question"`, 400, codes.InvalidArgument, "The request cannot be read: "},
		{"POST", "/v1/answers", "\xff", 400, codes.InvalidArgument, "The request cannot be read: "},
		{"POST", "/v1/answers", long, 413, codes.InvalidArgument, "limit of 1000 bytes"},
		{"POST", "/v1/answers:stream", long, 413, codes.InvalidArgument, "limit of 1000 bytes"},
		{"GET", "/v1/jobs?page_size=many", "", 400, codes.InvalidArgument, "page_size"},
		{"GET", "/v1/documents?state=odd", "", 400, codes.InvalidArgument, "The request cannot be read: "},
		{"GET", "/v1/nothing", "", 404, codes.NotFound, "/openapi.json"},
		{"PUT", "/v1/answers", "{}", 405, codes.Unimplemented, "does not take PUT"},
		{"GET", "/murphey.generator.v1.GeneratorService/ListModels", "", 404, codes.NotFound, ""},
	} {
		response := send(t, test.method, gateway.url+test.path, strings.NewReader(test.body))
		t.Log(test.method, test.path)
		expectError(t, response, test.status, test.code, test.says)
	}
}

func TestTheMethodCannotBeOverridden(t *testing.T) {
	_, gateway := start(t)
	response := send(t, "POST", gateway.url+"/v1/jobs", strings.NewReader("page_size=1"),
		"X-HTTP-Method-Override", "GET", "Content-Type", "application/x-www-form-urlencoded")
	expectError(t, response, http.StatusMethodNotAllowed, codes.Unimplemented, "does not take POST")
}

func TestOnlyWhitelistedHeadersBecomeMetadata(t *testing.T) {
	mesh, gateway := start(t)
	seen := make(chan metadata.MD, 1)
	mesh.orchestrator.answer = func(ctx context.Context, _ *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		seen <- md
		return &orchestratorv1.AnswerResponse{}, nil
	}
	send(t, "POST", gateway.url+"/v1/answers", strings.NewReader(`{}`),
		"Authorization", "Bearer secret", "Traceparent", "00-1-2-01", "Tracestate", "a=b", "Cookie", "c=d", "X-Api-Key", "mk_1",
		"Grpc-Metadata-Identity", "root", "Grpc-Metadata-Authorization", "Bearer forged", "X-Identity", "root", "Origin-Is", "x")
	got := arrives(t, seen, "the call")
	allowed := map[string]string{
		"authorization": "Bearer secret", "traceparent": "00-1-2-01", "tracestate": "a=b", "x-api-key": "mk_1", "x-forwarded-for": "127.0.0.1",
		"x-forwarded-host": gateway.address, "user-agent": "", "content-type": "", ":authority": "", "grpc-accept-encoding": "",
	}
	for key, values := range got {
		want, ok := allowed[key]
		if !ok || len(values) != 1 || (want != "" && values[0] != want) {
			t.Errorf("metadata %s = %q", key, values)
		}
	}
	for key := range allowed {
		if allowed[key] != "" && len(got.Get(key)) == 0 {
			t.Errorf("metadata %s is missing", key)
		}
	}
}

func TestGrpcTimeoutIsTheDeadline(t *testing.T) {
	mesh, gateway := start(t)
	mesh.orchestrator.answer = func(ctx context.Context, _ *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
		if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > time.Second {
			t.Errorf("the deadline is %v, %v", deadline, ok)
		}
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	response := send(t, "POST", gateway.url+"/v1/answers", strings.NewReader(`{}`), "Grpc-Timeout", "50m")
	expectError(t, response, http.StatusGatewayTimeout, codes.DeadlineExceeded, "")
}

func TestADeadServiceIs503AndNamed(t *testing.T) {
	mesh, gateway := start(t)
	mesh.servers["orchestrator"].Stop()
	for _, path := range []string{"/v1/answers", "/v1/answers:stream"} {
		response := send(t, "POST", gateway.url+path, strings.NewReader(`{}`), "Accept", "text/event-stream")
		expectError(t, response, http.StatusServiceUnavailable, codes.Unavailable, "The orchestrator service cannot be reached")
		if response.Header.Get("Retry-After") != "1" || response.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %v", response.Header)
		}
	}
}
