package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	generatorv1 "murphey.dev/gateway/gen/murphey/generator/v1"
	ingestv1 "murphey.dev/gateway/gen/murphey/ingest/v1"
	orchestratorv1 "murphey.dev/gateway/gen/murphey/orchestrator/v1"
	retrieverv1 "murphey.dev/gateway/gen/murphey/retriever/v1"
	"murphey.dev/gateway/internal/server"
	"murphey.dev/gateway/internal/settings"
)

const patience = 10 * time.Second

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

// mesh is the services behind: real gRPC servers whose methods a test scripts.
type mesh struct {
	orchestrator orchestrator
	ingest       ingest
	retriever    retriever
	generator    generator
	targets      map[string]string
	health       map[string]*health.Server
	servers      map[string]*grpc.Server
	connected    chan bool     // one for each connection that a service gets, as far as it has room
	maxAge       time.Duration // of connections; 0 means forever
}

// connections counts them.
type connections struct{ begun chan<- bool }

func (c connections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c connections) HandleRPC(context.Context, stats.RPCStats)                         {}
func (c connections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c connections) HandleConn(_ context.Context, event stats.ConnStats) {
	if _, begun := event.(*stats.ConnBegin); begun {
		select {
		case c.begun <- true:
		default:
		}
	}
}

type orchestrator struct {
	orchestratorv1.UnimplementedOrchestratorServiceServer
	answer func(context.Context, *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error)
	stream func(*orchestratorv1.StreamAnswerRequest, orchestratorv1.OrchestratorService_StreamAnswerServer) error
}

func (o *orchestrator) Answer(ctx context.Context, r *orchestratorv1.AnswerRequest) (*orchestratorv1.AnswerResponse, error) {
	return o.answer(ctx, r)
}

func (o *orchestrator) StreamAnswer(
	r *orchestratorv1.StreamAnswerRequest, s orchestratorv1.OrchestratorService_StreamAnswerServer,
) error {
	return o.stream(r, s)
}

type ingest struct {
	ingestv1.UnimplementedIngestServiceServer
	upload   func(ingestv1.IngestService_UploadDocumentServer) error
	download func(*ingestv1.DownloadDocumentRequest, ingestv1.IngestService_DownloadDocumentServer) error
	watch    func(*ingestv1.WatchJobRequest, ingestv1.IngestService_WatchJobServer) error
	get      func(context.Context, *ingestv1.GetDocumentRequest) (*ingestv1.GetDocumentResponse, error)
}

func (i *ingest) UploadDocument(s ingestv1.IngestService_UploadDocumentServer) error {
	return i.upload(s)
}
func (i *ingest) DownloadDocument(r *ingestv1.DownloadDocumentRequest, s ingestv1.IngestService_DownloadDocumentServer) error {
	return i.download(r, s)
}
func (i *ingest) WatchJob(r *ingestv1.WatchJobRequest, s ingestv1.IngestService_WatchJobServer) error {
	return i.watch(r, s)
}
func (i *ingest) GetDocument(ctx context.Context, r *ingestv1.GetDocumentRequest) (*ingestv1.GetDocumentResponse, error) {
	return i.get(ctx, r)
}

type retriever struct {
	retrieverv1.UnimplementedRetrieverServiceServer
	search func(context.Context, *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error)
}

func (r *retriever) Search(ctx context.Context, q *retrieverv1.SearchRequest) (*retrieverv1.SearchResponse, error) {
	return r.search(ctx, q)
}

type generator struct {
	generatorv1.UnimplementedGeneratorServiceServer
}

// echo answers every method that no service has, with each message it gets: a stream in both directions.
func echo(_ any, stream grpc.ServerStream) error {
	for {
		message := &retrieverv1.Span{}
		if err := stream.RecvMsg(message); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(message); err != nil {
			return err
		}
	}
}

func startMesh(t *testing.T, change ...func(*mesh)) *mesh {
	t.Helper()
	m := &mesh{targets: map[string]string{}, health: map[string]*health.Server{}, servers: map[string]*grpc.Server{}}
	for _, apply := range change {
		apply(m)
	}
	m.start(t, "orchestrator", func(s *grpc.Server) { orchestratorv1.RegisterOrchestratorServiceServer(s, &m.orchestrator) })
	m.start(t, "ingest", func(s *grpc.Server) { ingestv1.RegisterIngestServiceServer(s, &m.ingest) })
	m.start(t, "retriever", func(s *grpc.Server) { retrieverv1.RegisterRetrieverServiceServer(s, &m.retriever) })
	m.start(t, "generator", func(s *grpc.Server) { generatorv1.RegisterGeneratorServiceServer(s, &m.generator) })
	return m
}

func (m *mesh) start(t *testing.T, name string, register func(*grpc.Server)) {
	t.Helper()
	listener := listen(t)
	grpcServer := grpc.NewServer(grpc.UnknownServiceHandler(echo), grpc.MaxRecvMsgSize(64<<20),
		grpc.StatsHandler(connections{m.connected}), grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: m.maxAge}))
	register(grpcServer)
	checks := health.NewServer()
	for service := range grpcServer.GetServiceInfo() {
		checks.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(grpcServer, checks)
	go func() { _ = grpcServer.Serve(listener) }()
	t.Cleanup(grpcServer.Stop)
	m.targets[name], m.health[name], m.servers[name] = listener.Addr().String(), checks, grpcServer
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// gateway is a running gateway.
type gateway struct {
	address string
	url     string
	stop    context.CancelFunc
	stopped <-chan struct{}
}

// startGateway runs one before the mesh; `change` may alter its settings.
func startGateway(t *testing.T, m *mesh, change ...func(*settings.Settings)) gateway {
	t.Helper()
	chosen, err := settings.Parse([]string{"--drain-s", "0.2"}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	chosen.Targets = m.targets
	for _, apply := range change {
		apply(&chosen)
	}
	openAPI, err := os.ReadFile("../../gen/murphey.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	listener := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if err := server.Run(ctx, chosen, listener, openAPI); err != nil {
			t.Errorf("the gateway failed: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-stopped })
	address := listener.Addr().String()
	return gateway{address, "http://" + address, cancel, stopped}
}

// start runs both.
func start(t *testing.T, change ...func(*settings.Settings)) (*mesh, gateway) {
	t.Helper()
	m := startMesh(t)
	return m, startGateway(t, m, change...)
}

// dial is a gRPC client of the gateway.
func (g gateway) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(g.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// send makes a request and fails the test when there is no answer. Headers are pairs.
func send(t *testing.T, method, url string, body io.Reader, headers ...string) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			request.Host = headers[i+1]
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = response.Body.Close() })
	return response
}

func text(t *testing.T, response *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// expectJSON compares status and body; the body's spaces and order of keys do not count.
func expectJSON(t *testing.T, response *http.Response, code int, want string) {
	t.Helper()
	got := text(t, response)
	if response.StatusCode != code {
		t.Errorf("status %d, want %d: %s", response.StatusCode, code, got)
	}
	if !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		t.Errorf("content type %q", response.Header.Get("Content-Type"))
	}
	if canonical(t, got) != canonical(t, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func canonical(t *testing.T, document string) string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(document), &value); err != nil {
		t.Fatalf("%v in %q", err, document)
	}
	var compact bytes.Buffer
	if err := json.NewEncoder(&compact).Encode(value); err != nil {
		t.Fatal(err)
	}
	return compact.String()
}

// expectError checks an error's HTTP status, gRPC code and words.
func expectError(t *testing.T, response *http.Response, httpStatus int, code codes.Code, says string) {
	t.Helper()
	got := text(t, response)
	var failure struct {
		Code    codes.Code
		Message string
		Details []any
	}
	if err := json.Unmarshal([]byte(got), &failure); err != nil {
		t.Fatalf("status %d, %v in %q", response.StatusCode, err, got)
	}
	if response.StatusCode != httpStatus || failure.Code != code || !strings.Contains(failure.Message, says) {
		t.Errorf("status %d, %s; want %d, code %d, %q", response.StatusCode, got, httpStatus, code, says)
	}
}

// overloaded is an error as the services make them.
func overloaded(t *testing.T) error {
	t.Helper()
	failure, err := status.New(codes.ResourceExhausted, "32 requests run already.").WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "murphey", Metadata: map[string]string{"service": "orchestrator"}},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	)
	if err != nil {
		t.Fatal(err)
	}
	return failure.Err()
}

// arrives waits for a value and fails the test when it does not come.
func arrives[T any](t *testing.T, channel <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-channel:
		return value
	case <-time.After(patience):
		t.Fatalf("%s did not come within %s", what, patience)
		panic("unreachable")
	}
}
