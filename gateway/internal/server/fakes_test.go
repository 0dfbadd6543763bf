package server_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/stats"

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
	credentials  credentials.TransportCredentials
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
	m := &mesh{
		targets: map[string]string{}, health: map[string]*health.Server{}, servers: map[string]*grpc.Server{},
		credentials: insecure.NewCredentials(),
	}
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
	grpcServer := grpc.NewServer(grpc.Creds(m.credentials), grpc.UnknownServiceHandler(echo), grpc.MaxRecvMsgSize(64<<20),
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
